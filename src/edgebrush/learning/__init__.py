"""The learners, one file per algorithm; JAX, equinox and optax."""

CHECKPOINT, CURVE = "checkpoint", "curve.csv"  # in the folder of a training: while it lasts, and when it is done
