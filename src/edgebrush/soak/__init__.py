"""Storms of random faults at a running testbed, with the invariants checked throughout."""
