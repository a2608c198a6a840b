"""A scenario from measurements: of servers and links before the first task, of agents' journals afterwards."""
