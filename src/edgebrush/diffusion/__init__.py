"""Run real generative diffusion models (GDMs): backends, samplers, the step-level batching engine; training."""

import os

# ONNX Runtime 1.29 and later reports its use to its maker, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
