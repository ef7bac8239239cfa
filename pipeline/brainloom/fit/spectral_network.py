"""The nonlinear stochastic network of a subject that was fitted by its cross-spectra, and what measures it."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import jax
import numpy as np
import xarray as xr

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import get_model
from brainloom.models.declare import Arrays, Parameter

# isort: split
import brainunit as u

from brainloom.core.modalities import ELECTRIC, UNITS
from brainloom.core.units import parse
from brainloom.linear.equilibrium import checked_fixed_point
from brainloom.linear.measured import observable_at
from brainloom.network import Network
from brainloom.observe.average import Sample
from brainloom.observe.base import Filter, Observer
from brainloom.observe.bold import BOLD
from brainloom.observe.lead_field import EEGLeadFieldModel, MEGLeadFieldModel

SECOND = parse("s")


class Deviation(Filter):
    """What a signal of regions is above a value, times a factor: sources that are compared as they are."""

    SPATIAL: ClassVar[bool] = True
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("factor", 1.0, (0.0, np.inf), "1", "unit of the recording per unit of the observable"),
        Parameter(
            "rest", 0.0, (-np.inf, np.inf), "1", "value that is 0 in the recording, in the observable's unit"
        ),
    )

    def at(self, p: Arrays, value: jax.Array) -> jax.Array:
        """See `Filter.at`."""
        return p["factor"] * (value - p["rest"])

    def out_unit(self, unit: Any) -> Any:
        """See `Filter.out_unit`: that of the recording, which is not known here."""
        return u.UNITLESS


def spectral_network(connectome: xr.Dataset, fit: xr.Dataset) -> tuple[Network, dict[str, Observer]]:
    """
    The network at a subject's best fit, and an observer for each modality.

    Parameters
    ----------
    connectome, fit : xarray.Dataset
        `fit` as `brainloom.fit.spectral.fit_subject_spectral` makes it.

    Returns
    -------
    network : Network
        With the fitted noise and delays.
    observers : dict of Observer
        By modality, sampling as the recordings, without measurement noise: ``bold`` driven by what the observable
        is above its fixed point; ``eeg`` and ``meg`` at the sensors, the fixed point taken away.
    """
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    regional = {
        str(name): str(scope) == "regional"
        for name, scope in zip(best["parameter"].values, best["scope"].values, strict=True)
    }
    value = {
        name: row if regional[name] else float(row[0])
        for name, row in zip(regional, best["estimate"].values, strict=True)
    }
    settings = json.loads(fit.attrs["model_config"])
    model = get_model(str(fit.attrs["model"]))
    own = [p.name for p in model.PARAMETERS]
    given = dict(settings.get("parameters") or {})
    given |= {name: value[name] for name in own if name in value}
    for name, ratio in json.loads(fit.attrs["noise_ratio"]).items():
        given[f"noise_{name}"] = ratio * value["noise"]
    weights, lengths = connectome["weights"].values, connectome["lengths"].values
    coupling = settings.get("coupling") or {}
    delayed = bool((lengths > 0).any())
    network = Network(
        model(len(weights), **given),
        weights,
        distance=lengths if delayed else None,
        speed=value["speed"] if delayed else None,
        coupling=coupling.get("kind", "additive"),
        coupled_var=coupling.get("source", "source"),
        port=coupling.get("port"),
        k=1.0 if "k" in own else value["k"],
    )
    return network, _observers(network, fit, value)


def _observers(network: Network, fit: xr.Dataset, value: dict[str, Any]) -> dict[str, Observer]:
    structure, values = network.structure("stochastic_heun", 1.0), network.parameter_values()
    state = checked_fixed_point(structure, values, network.node.initial_values(key=jax.random.key(0)))
    found: dict[str, Observer] = {}
    for name in str(fit.attrs["modality"]).split(","):
        observable = "bold" if name == "bold" else "eeg"
        rest = np.asarray(observable_at(structure, values, state, observable))
        # fits count in the unit in which the model declares an observable, observers in the one that results show
        declared = network.node.observables()[observable]
        unit = parse(declared.unit, network.node.time_unit)
        shown = parse(declared.shown or declared.unit, network.node.time_unit)
        if name == "bold":
            tr = float(fit.attrs["repetition_time"]) * SECOND
            found[name] = BOLD(tr, bold_gain=value["bold_gain"] / SECOND / unit, bold_baseline=rest * unit)
        elif name in ELECTRIC:
            every = SECOND / float(fit.attrs[f"{name}_sampling_frequency"])
            sensors = _sensors(name, fit, value["dipole_gain"], rest, unit, shown)
            found[name] = Sample("eeg", name, every) >> sensors
    return found


def _sensors(name: str, fit: xr.Dataset, gain: Any, rest: np.ndarray, unit: Any, shown: Any) -> Filter:
    if f"{name}_lead_field" not in fit:
        scale = float(u.Quantity(1.0, unit=unit).to_decimal(shown))
        return Deviation(factor=gain / scale, rest=rest * scale)
    kind = EEGLeadFieldModel if name == "eeg" else MEGLeadFieldModel
    own = str(fit.attrs.get(f"{name}_unit", UNITS[name]))
    field = fit[f"{name}_lead_field"].values
    return kind(
        L=field,
        leadfield_unit=f"{own}/(A*m)",
        dims=("sensor", "region"),
        sensor_unit=own,
        dipole_gain=gain * parse("nA*m") / unit,
        bias=-field @ (1e-9 * gain * rest),
    )
