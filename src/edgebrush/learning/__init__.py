"""The learners, one file per algorithm; JAX, equinox and optax."""
