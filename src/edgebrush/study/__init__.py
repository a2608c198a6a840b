"""The large jobs: ``compare`` (tune, train, evaluate, report), ``train``, and ``reproduce`` (the whole study)."""

# The default comparison takes about 6 minutes on 2 cores.
TRAINING_S = 220.0  # for all training seeds together
TRAINING_SEEDS = 4
