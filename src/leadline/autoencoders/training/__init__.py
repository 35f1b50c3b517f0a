"""Pretraining: the training loop, its checkpoints, and its result."""
