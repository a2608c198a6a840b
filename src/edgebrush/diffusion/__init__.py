"""Run real generative diffusion models (GDMs): backends, samplers, the step-level batching engine; training."""
