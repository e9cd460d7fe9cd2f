"""Fine-tuning: the callback, the optimizer, checkpoints, the solved head."""
