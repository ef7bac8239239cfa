"""The space that a fit searches: names, order and meaning of the unconstrained coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.config_fc import fitted_names

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
        What has one coordinate, out of `GLOBAL` and `REGIONAL`, and what has one a region, out of `REGIONAL`; the
        others stay at their reference.
    n_regions : int
    widths : tuple of float
        How far each name may be from its reference before the penalty of 1 is reached, first the global ones; 1 if empty.
    """

    global_names: tuple[str, ...]
    regional_names: tuple[str, ...]
    n_regions: int
    widths: tuple[float, ...] = ()

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
        for k, name in enumerate(self.global_names):
            out[name] = theta[k] if name in GLOBAL else jnp.broadcast_to(theta[k], self.n_regions)
        return out | {name: fields[k] for k, name in enumerate(self.regional_names)}

    def prior_sd(self) -> np.ndarray:
        """Width of every coordinate, (size,)."""
        widths = self.widths or (1.0,) * (len(self.global_names) + len(self.regional_names))
        n_global = len(self.global_names)
        return np.concatenate([widths[:n_global], np.repeat(widths[n_global:], self.n_regions)])

    def penalty(self, theta: jax.Array) -> jax.Array:
        """Sum of squared deviations in units of the widths."""
        return jnp.sum((theta / jnp.asarray(self.prior_sd(), theta.dtype)) ** 2 if self.widths else theta**2)

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
        # nobody starts far outside of what was said to be plausible
        return theta * jnp.asarray(np.minimum(self.prior_sd(), 1.0), theta.dtype) if self.widths else theta

    def labels(self, region: Sequence[str], *, local: str) -> list[str]:
        """Name of every coordinate, such as ``coupling`` or ``a[Precentral_L]``."""
        names, fields = (
            [local if name == "local" else name for name in found]
            for found in (self.global_names, self.regional_names)
        )
        return [*names, *(f"{name}[{label}]" for name in fields for label in region)]


def space_from_config(fit: Mapping, n_regions: int) -> FitSpace:
    """Space of the config section ``fit``: of ``parameters`` if it names some, else of ``global`` and ``regional``."""
    if not fit.get("parameters"):
        known = [name for name in GLOBAL if name in fit["global"]]
        fields = [name for name in REGIONAL if name in fit["regional"]]
        return FitSpace(tuple(known), tuple(fields), n_regions)
    fitted = fitted_names(fit["parameters"])
    known = [name for name in (*GLOBAL, *REGIONAL) if name in fitted and fitted[name]["scope"] == "global"]
    fields = [name for name in REGIONAL if name in fitted and fitted[name]["scope"] == "regional"]
    widths = tuple(float(fitted[name]["prior_sd"]) for name in (*known, *fields))
    return FitSpace(tuple(known), tuple(fields), n_regions, widths)
