"""edgebrush: where, in what order and with how many denoising steps images are generated at the edge."""
