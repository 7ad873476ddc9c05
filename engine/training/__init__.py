"""Training: procedural two-pass scenes, losses, the loop. See README, "Training"."""
