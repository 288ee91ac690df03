"""Training: the loop, its schedule and checkpoints, metrics, and walk-forward evaluation."""
