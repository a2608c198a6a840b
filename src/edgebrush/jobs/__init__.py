"""Jobs that are cached by content (training, tuning, playing), and the executor that runs them in parallel."""
