"""The coordinates of a fit of the workflow as a module that `Fitter` fits."""

from __future__ import annotations

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import NeuralMass  # noqa: F401

# isort: split
import brainstate
import jax.numpy as jnp


class Coordinates(brainstate.nn.Module):
    """
    The coordinates of a fit as the one parameter of a module.

    Parameters
    ----------
    theta : (size,) array
    """

    def __init__(self, theta: jax.Array) -> None:
        super().__init__()
        self.theta = brainstate.nn.Param(jnp.asarray(theta), fit=True)


def theta_of(model: Coordinates) -> jax.Array:
    """The coordinates: what an objective of the workflow predicts from."""
    return jnp.asarray(model.theta.value())
