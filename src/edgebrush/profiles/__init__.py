"""What a generative diffusion model costs and yields per denoising step, each figure with its source."""
