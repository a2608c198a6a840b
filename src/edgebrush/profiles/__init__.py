"""What a diffusion model costs and yields per denoising step: the catalogue that ships, and the curve fits."""
