"""The training loop, its runtime protocol and its state."""
