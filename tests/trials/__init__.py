"""Trials: losses, metrics, optimiser, checkpoints, resume, evaluation, data."""
