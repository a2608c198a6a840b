"""The large jobs: ``compare`` (tune, train, evaluate, report), ``train``, and ``reproduce`` (the whole study)."""
