"""First episode seeds for tuning, training, validation and held-out evaluation, far enough apart never to overlap."""

TUNING_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS = 10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9
