"""Gradient fits of network models to recordings, and what the data identify of them."""
