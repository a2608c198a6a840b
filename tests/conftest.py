"""What all tests start from: quick compilation, and Ctrl-C that works."""

import os
import signal

# Compiling is most of what the learners' tests cost: XLA does it quickly rather than well.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# A shell's background jobs ignore SIGINT, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
