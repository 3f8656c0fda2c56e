"""Several ranks, started by torchrun."""
