"""Observation in, decision out: rules and the trained actor, on NumPy alone."""
