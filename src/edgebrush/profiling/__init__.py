"""Measure a diffusion model on this machine: seconds and joules per round, image quality against steps; a profile."""
