"""The space that a fit searches: names, order and meaning of the unconstrained coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

GLOBAL = ("coupling", "homotopic")
REGIONAL = ("local", "noise", "gain_in", "gain_out")


@dataclass(frozen=True)
class FitSpace:
    """
    Coordinates of a fit: the log of every global parameter, then of every regional field, region by region.

    All coordinates are 0 at the reference values; the penalty of the fit pulls them there.

    Attributes
    ----------
    global_names, regional_names : tuple of str
        Subsets of `GLOBAL` and `REGIONAL`; the others stay at their reference.
    n_regions : int
    """

    global_names: tuple[str, ...]
    regional_names: tuple[str, ...]
    n_regions: int

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.global_names) + len(self.regional_names) * self.n_regions

    def unpack(self, theta: jax.Array) -> dict[str, jax.Array]:
        """
        Log deviations by name: scalars for global parameters, (region,) for fields, 0 for what is not fitted.

        Parameters
        ----------
        theta : (size,) array
        """
        n_global = len(self.global_names)
        fields = theta[n_global:].reshape(len(self.regional_names), self.n_regions)
        out: dict[str, jax.Array] = {name: jnp.zeros((), theta.dtype) for name in GLOBAL}
        out |= {name: jnp.zeros(self.n_regions, theta.dtype) for name in REGIONAL}
        out |= {name: theta[k] for k, name in enumerate(self.global_names)}
        return out | {name: fields[k] for k, name in enumerate(self.regional_names)}

    def starts(self, n_starts: int, key: jax.Array) -> jax.Array:
        """
        Starting points: global coupling spread over a factor e^2 around its reference, fields slightly
        perturbed.

        Start k depends on `key` and k alone, except for its coupling, which is one of an even grid.

        Returns
        -------
        (n_starts, size) array
        """
        spread = jnp.linspace(-1.0, 1.0, n_starts) if n_starts > 1 else jnp.zeros(1)
        keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(n_starts))
        noise = 0.05 * jax.vmap(lambda k: jax.random.normal(k, (self.size,)))(keys)
        theta = noise.at[:, : len(self.global_names)].set(0.0)
        if "coupling" in self.global_names:
            theta = theta.at[:, self.global_names.index("coupling")].set(spread)
        return theta

    def labels(self, region: Sequence[str], *, local: str) -> list[str]:
        """Name of every coordinate, such as ``coupling`` or ``a[Precentral_L]``."""
        names = [local if name == "local" else name for name in self.regional_names]
        return [*self.global_names, *(f"{name}[{label}]" for name in names for label in region)]


def space_from_config(fit: Mapping, n_regions: int) -> FitSpace:
    """Space of the config section ``fit``; its lists are validated by the schema."""
    known = [name for name in GLOBAL if name in fit["global"]]
    fields = [name for name in REGIONAL if name in fit["regional"]]
    return FitSpace(tuple(known), tuple(fields), n_regions)
