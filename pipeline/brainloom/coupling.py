"""Coupling functions: what a region receives from the others. ``W[i, j]`` is the weight from j to i."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp


def diffusive(weights: jax.Array, x: jax.Array, gain: jax.Array | float = 1.0) -> jax.Array:
    """
    Diffusive coupling ``gain * sum_j W_ij (x_j - x_i)``.

    Parameters
    ----------
    weights : (region, region) array
    x : (..., region) array
        Undelayed source.
    gain : scalar or (region,) array
        Per target.

    Returns
    -------
    (..., region) array, computed as ``W x - strength x``: no N x N difference is formed.
    """
    return gain * (x @ weights.T - jnp.sum(weights, axis=1) * x)


def additive(weights: jax.Array, x: jax.Array, gain: jax.Array | float = 1.0) -> jax.Array:
    """
    Additive coupling ``gain * sum_j W_ij x_j``; shapes as in `diffusive`.
    """
    return gain * (x @ weights.T)


COUPLINGS: dict[str, Callable[..., jax.Array]] = {"diffusive": diffusive, "additive": additive}


@dataclass(frozen=True)
class Coupling:
    """One coupling of a network: which observable reaches which port, and how."""

    kind: str
    source: str
    port: str

    def __post_init__(self) -> None:
        if self.kind not in COUPLINGS:
            raise ValueError(f"coupling is {self.kind!r}; it must be one of {', '.join(sorted(COUPLINGS))}")
