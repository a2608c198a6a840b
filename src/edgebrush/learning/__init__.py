"""Training of policies in JAX: one file per algorithm in ``algorithms/``, what they share beside it."""

CHECKPOINT, CURVE = "checkpoint", "curve.csv"  # in a training's folder: the first while it runs, the second at its end
