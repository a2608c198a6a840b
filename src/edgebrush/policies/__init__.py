"""Policies, on NumPy alone: rules, the trained actor and its variants, policy folders, plugins."""
