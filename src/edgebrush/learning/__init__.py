"""Training of policies in JAX: one file per algorithm in ``algorithms/``, what they share beside it."""

CHECKPOINT, CURVE = "checkpoint", "curve.csv"  # in a training's folder: the first while it runs, the second at its end


class WorkerLost(RuntimeError):
    """The process or the machine that did some work is gone. It is no error in the work, which can be run again."""
