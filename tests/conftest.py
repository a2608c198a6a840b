"""Compiling is most of what the learners' tests cost: XLA does it quickly rather than well."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
