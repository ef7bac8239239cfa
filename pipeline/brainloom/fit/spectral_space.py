"""What a fit of cross-spectra searches: parameters of the model, the network and what is measured, with their priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import ConfigError
from brainloom.core.modalities import ELECTRIC
from brainloom.models import NeuralMass

# Scales that no prior knowledge fixes; they are found from the recording, and free within a factor of e^2.
SCALES = ("bold_gain", "bold_noise", "dipole_gain", "sensor_noise")
SCALE_SD = 2.0
# A prior narrower than this fixes a parameter at its start.
FIXED = 1e-3
# Parameters of the network that are not fitted: no conduction faster than this is known, and no gain is assumed.
DEFAULTS = {"k": 1.0, "speed": 10.0}


@dataclass(frozen=True)
class Entry:
    """
    One fitted parameter.

    Attributes
    ----------
    name : str
    regional : bool
        One value a region, or one for all.
    kind : {"log", "bounded", "identity"}
        Positive without an upper bound; within the declared bounds; or neither.
    prior_sd : float
        Of the coordinate; the prior's mean is 0, the start. Where the value cannot be negative a coordinate
        counts in log units, exactly for ``log`` and at the start for ``bounded``; otherwise in quarters of the bounds.
    low, high : float
        Bounds.
    unit : str
    """

    name: str
    regional: bool
    kind: str
    prior_sd: float
    low: float = 0.0
    high: float = np.inf
    unit: str = "1"

    def value(self, start: jax.Array, coordinate: jax.Array) -> jax.Array:
        """Constrained value at a coordinate; `start` at 0."""
        if self.kind == "log":
            return start * jnp.exp(coordinate)
        if self.kind == "identity":
            return start + 0.25 * (self.high - self.low) * coordinate
        width = self.high - self.low
        at = (start - self.low) / width
        slope = start / (width * at * (1.0 - at)) if self.low >= 0.0 else 1.0
        return self.low + width * jax.nn.sigmoid(jnp.log(at / (1.0 - at)) + slope * coordinate)


@dataclass(frozen=True)
class SpectralSpace:
    """
    Unconstrained coordinates of a fit: global parameters first, then every regional one, region by region.

    Attributes
    ----------
    entries : tuple of Entry
    n_regions : int
    """

    entries: tuple[Entry, ...]
    n_regions: int

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(self.n_regions if one.regional else 1 for one in self.entries)

    def unpack(self, theta: jax.Array) -> dict[str, jax.Array]:
        """Coordinates by name: scalars for global parameters, (region,) for regional ones."""
        out, at = {}, 0
        for one in self.entries:
            width = self.n_regions if one.regional else 1
            out[one.name] = theta[at : at + width] if one.regional else theta[at]
            at += width
        return out

    def values(self, theta: jax.Array, start: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """
        Constrained values by name.

        Parameters
        ----------
        theta : (size,) array
        start : dict of scalars or (region,) arrays
            Values where all coordinates are 0.
        """
        given = self.unpack(theta)
        return {one.name: one.value(start[one.name], given[one.name]) for one in self.entries}

    def prior_sd(self) -> np.ndarray:
        """Standard deviation of the prior of every coordinate, (size,)."""
        return np.concatenate(
            [np.full(self.n_regions if one.regional else 1, one.prior_sd) for one in self.entries]
        )

    def starts(self, n_starts: int, key: jax.Array) -> jax.Array:
        """
        Starting points: the centre of the prior, and draws from half its width.

        Start k depends on `key` and k alone. Scales of the recording start where they were found.

        Returns
        -------
        (n_starts, size) array
        """
        width = np.concatenate(
            [
                np.full(
                    self.n_regions if one.regional else 1,
                    0.0 if _is_scale(one.name) else min(one.prior_sd, 1.0) * (0.1 if one.regional else 0.5),
                )
                for one in self.entries
            ]
        )
        keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(n_starts))
        draws = jax.vmap(lambda k: jax.random.normal(k, (self.size,)))(keys)
        return (jnp.asarray(width) * draws).at[0].set(0.0)

    def labels(self, region: Sequence[str]) -> list[str]:
        """Name of every coordinate, such as ``k`` or ``noise[Precentral_L]``."""
        return [
            label
            for one in self.entries
            for label in ([f"{one.name}[{name}]" for name in region] if one.regional else [one.name])
        ]


def _is_scale(name: str) -> bool:
    return name.startswith(SCALES)


def sensor_noise_names(modalities: Sequence[str]) -> dict[str, str]:
    """Name of the sensor noise of each electric modality: one each if there are several."""
    electric = [name for name in modalities if name in ELECTRIC]
    return {name: "sensor_noise" if len(electric) == 1 else f"sensor_noise_{name}" for name in electric}


def observation_names(modalities: Sequence[str]) -> list[str]:
    """Scales and measurement noise of the modalities that are fitted."""
    names = ["bold_gain", "bold_noise"] if "bold" in modalities else []
    noises = sensor_noise_names(modalities)
    return names + (["dipole_gain", *noises.values()] if noises else [])


def space_from_config(
    fit: Mapping,
    model: type[NeuralMass],
    n_regions: int,
    modalities: Sequence[str],
    units: Mapping[str, str],
) -> tuple[SpectralSpace, dict[str, float | None]]:
    """
    Space and given starting values of the config section ``fit``.

    Parameters
    ----------
    fit : mapping
        ``parameters``: name to ``{start, prior_sd, scope}``. Scales of the recording that it does not name are
        fitted too.
    model : type of NeuralMass
    n_regions : int
    modalities : sequence of str
        Those that are fitted.
    units : mapping
        Unit of each parameter that is not one of the model.

    Returns
    -------
    space : SpectralSpace
    start : dict
        Value of every named parameter, those fixed by a narrow prior included; None where none was given.

    Raises
    ------
    ConfigError
        A parameter that neither model nor network nor the modalities have.
    """
    declared = {p.name: p for p in model.PARAMETERS}
    noises = sensor_noise_names(modalities)
    given: dict[str, Mapping] = {}
    for name, one in fit.get("parameters", {}).items():
        for own in noises.values() if name == "sensor_noise" else [name]:
            given[own] = one
    observed = observation_names(modalities)
    unknown = [name for name in given if name not in {*declared, *DEFAULTS, "noise", *observed}]
    if unknown:
        raise ConfigError(
            f"fit.parameters names {unknown[0]}, which neither {model.__name__} nor modality {', '.join(modalities)} "
            f"has; it may be one of {', '.join([*declared, *DEFAULTS, 'noise', *observed])}"
        )
    for name in observed:
        given.setdefault(name, {"prior_sd": SCALE_SD})
    entries, start = [], {}
    for name, one in given.items():
        low, high = declared[name].bounds if name in declared else (0.0, np.inf)
        start[name] = one.get("start")
        first = start[name] if start[name] is not None else _default(declared, name)
        sd = float(one.get("prior_sd", SCALE_SD if _is_scale(name) else 1.0))
        if sd > FIXED:
            entries.append(
                Entry(
                    name,
                    one.get("scope", "global") == "regional",
                    _kind(low, high, first),
                    sd,
                    float(low),
                    float(high),
                    declared[name].unit if name in declared else units[name],
                )
            )
    entries.sort(key=lambda one: one.regional)  # stable: global parameters first
    return SpectralSpace(tuple(entries), n_regions), start


def _kind(low: float, high: float, start: float | None) -> str:
    if start is not None and np.isfinite(high) and low < start < high:
        return "bounded"
    return "log" if low >= 0.0 and (start is None or start > 0.0) else "identity"


def _default(declared: Mapping, name: str) -> float | None:
    default = declared[name].default if name in declared else DEFAULTS.get(name)
    return None if callable(default) else default
