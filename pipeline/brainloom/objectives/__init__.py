"""Differentiable objectives: how far a prediction is from the data, as one number."""
