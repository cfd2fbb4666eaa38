"""Fine-tuning: optimizer, callbacks, training loop, checkpoints, distributed training."""
