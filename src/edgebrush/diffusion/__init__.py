"""Real generative diffusion models (GDMs): samplers, backends, the step-level engine, quality, training."""
