"""Simulate a subject that was fitted by its cross-spectra: all modalities in one run, with measurement noise."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import brainunit as u
import jax
import numpy as np
import xarray as xr

from brainloom.analysis.fc import average_correlations
from brainloom.analysis.features import features
from brainloom.analysis.meeg import meeg_features
from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.core.modalities import ELECTRIC
from brainloom.core.units import parse
from brainloom.fit.realise import bold_dataset
from brainloom.fit.spectral import spectral_network
from brainloom.io.lead_field import reference_matrix
from brainloom.linear.equilibrium import checked_fixed_point
from brainloom.network import Network
from brainloom.simulate import Simulator

SECOND = parse("s")
# Bytes of EEG or MEG that are in memory at once while they are simulated, and that a dataset keeps at most.
MOST_AT_ONCE = 400e6
MOST_STORED = 32e6
# Recordings whose common time step is shorter than the wanted one by more than this factor are not simulated together.
_SHORTEST = 50


def simulate_subject_spectral(
    subject: str, connectome: xr.Dataset, signal: xr.Dataset, fit: xr.Dataset, config: Mapping
) -> xr.Dataset:
    """
    Realisations with fresh noise at the fitted parameters, of the length of the test part of each modality.

    Parameters
    ----------
    subject : str
        Label.
    connectome, signal, fit : xarray.Dataset
    config : mapping
        Sections ``model, simulate, modality`` and ``seed``; ``signal`` with BOLD.

    Returns
    -------
    xarray.Dataset
        Of BOLD as `brainloom.fit.realise.simulate_subject` makes it, with one ``noise_level`` (1, the fitted one); of EEG
        and MEG ``eeg_psd(seed, eeg_sensor, eeg_frequency)``, ``eeg_envelope_fc(seed, eeg_sensor, eeg_sensor_to)``,
        ``eeg_peak_frequency(seed, eeg_sensor)``, ``eeg_band_power(seed, eeg_sensor, eeg_band)``, and the series
        ``eeg(eeg_seed, eeg_time, eeg_sensor)`` of the first realisations.

    Raises
    ------
    DataError
        All realisations diverged, or no time step fits the recordings.
    """
    settings = config["simulate"]
    network, observers = spectral_network(connectome, fit)
    plan = _plan(
        subject, network, signal, [name for name in config["modality"] if name in observers], settings
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in plan["names"]}
    for first in range(0, settings["seeds"], plan["chunk"]):
        count = min(plan["chunk"], settings["seeds"] - first)
        keys = (config["seed"], subject, first)
        for name, series in _realise(network, observers, signal, fit, plan, count, keys).items():
            found[name] += series
    diverged = [
        any(not np.isfinite(found[name][k]).all() for name in found) for k in range(settings["seeds"])
    ]
    if all(diverged):
        raise DataError(
            f"sub-{subject}: all {len(diverged)} simulations diverged with dt {plan['dt']:g} s; lower simulate.dt"
        )
    parts = []
    if "bold" in found:
        parts.append(_bold_part(found["bold"], diverged, signal, config, plan["dt"]))
    for name in ELECTRIC:
        if name in found:
            parts.append(_electric_part(name, found[name], diverged, signal, settings["stored"]))
    attrs = {"dt": plan["dt"], "n_realisations": len(diverged), "diverged": int(sum(diverged))}
    if "bold" in found:
        attrs["repetition_time"] = float(signal.attrs["repetition_time"])
    merged = xr.merge(parts, combine_attrs="override", join="exact", compat="equals")
    return merged.assign_attrs(attrs | {"modality": ",".join(plan["names"])})


def _plan(
    subject: str, network: Network, signal: xr.Dataset, names: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Time step, lengths in s, sampling intervals in s and how many realisations are run at once."""
    every, length, bytes_each = {}, {}, 1.0
    for name in names:
        if name == "bold":
            every[name] = float(signal.attrs["repetition_time"])
            length[name] = int(signal["n_frames"].sel(split="test")) * every[name]
        else:
            every[name] = 1.0 / float(signal.attrs[f"{name}_sampling_frequency"])
            length[name] = float(signal[f"{name}_duration"].sel(split="test"))
    longest = max(length.values())
    for name in names:
        bytes_each += (
            8.0 * signal.sizes["region" if name == "bold" else f"{name}_sensor"] * longest / every[name]
        )
    dt = settings["dt"]
    if dt is None:
        per_second = 1.0 if network.node.time_unit == "s" else 1e3
        dt = network.node.DT / per_second
    step = common_step(list(every.values()), dt)
    if step is None:
        raise DataError(
            f"sub-{subject}: no time step near {dt:g} s divides the sampling intervals "
            f"{', '.join(f'{one:g}' for one in every.values())} s; resample a recording"
        )
    whole = max(every.values())
    return {
        "names": list(names),
        "every": every,
        "length": length,
        "dt": step,
        "duration": math.ceil(longest / whole - 1e-6) * whole,
        "transient": math.ceil(settings["transient"] / whole - 1e-9) * whole,
        "chunk": int(np.clip(MOST_AT_ONCE // bytes_each, 1, settings["seeds"])),
    }


def common_step(intervals: Sequence[float], dt: float) -> float | None:
    """
    The longest time step up to `dt` that divides all intervals.

    Parameters
    ----------
    intervals : sequence of float
        s.
    dt : float
        s.

    Returns
    -------
    float, or None if the longest one is shorter than a fiftieth of `dt`.

    Examples
    --------
    >>> common_step([2.0, 1 / 250], 3e-3), common_step([2.0, 0.72], 0.5)
    (0.002, 0.08)
    """
    exact = [Fraction(one).limit_denominator(100_000) for one in intervals]
    common = exact[0]
    for one in exact[1:]:
        common = Fraction(
            math.gcd(common.numerator * one.denominator, one.numerator * common.denominator),
            common.denominator * one.denominator,
        )
    steps = math.ceil(float(common) / dt - 1e-9)
    step = float(common) / max(steps, 1)
    return step if step * _SHORTEST > dt else None


def _realise(
    network: Network,
    observers: Mapping[str, Any],
    signal: xr.Dataset,
    fit: xr.Dataset,
    plan: Mapping[str, Any],
    count: int,
    keys: tuple[int, str, int],
) -> dict[str, list[np.ndarray]]:
    """Measured series of some realisations, (time, channel) each, in the unit of the recording."""
    seed, subject, first = keys
    per_unit = 1.0 if network.node.time_unit == "s" else 1e3
    structure = network.structure("stochastic_heun", plan["dt"] * per_unit)
    rest = checked_fixed_point(structure, network.parameter_values(), network.node.initial_values())
    with warnings.catch_warnings():  # realisations that diverge are counted in the dataset
        warnings.simplefilter("ignore")
        run = Simulator(network, plan["dt"] * SECOND, method="stochastic_heun").run(
            (plan["duration"] + plan["transient"]) * SECOND,
            key=named_key(seed, "simulate", subject, str(first)),
            transient=plan["transient"] * SECOND,
            batch_size=count,
            monitors=[],
            observe=[observers[name] for name in plan["names"]],
            initial=rest,
            progress=False,
            check=False,
        )
    out = {}
    for name in plan["names"]:
        found = run[observers[name].name]
        unit = "1" if name == "bold" else str(signal.attrs[f"{name}_unit"])
        if isinstance(found, u.Quantity):
            found = found.to_decimal(parse(unit)) if unit in ("V", "T", "T/m") else found.mantissa
        values = np.asarray(found, dtype=np.float64)[: round(plan["length"][name] / plan["every"][name])]
        series = [values[:, k] for k in range(count)]
        noise = measurement_noise(name, signal, fit)
        for k, one in enumerate(series):
            key = named_key(seed, "measure", name, subject, str(first + k))
            draws = np.asarray(jax.random.normal(key, one.shape), dtype=np.float64)
            series[k] = one + draws @ noise.T
        out[name] = series
    return out


def measurement_noise(name: str, signal: xr.Dataset, fit: xr.Dataset) -> np.ndarray:
    """
    What turns independent standard normal numbers into the measurement noise of one sample.

    Parameters
    ----------
    name : str
        Modality.
    signal, fit : xarray.Dataset

    Returns
    -------
    (channel, channel) array, in the unit of the recording. Sensor noise is seen in the reference of the recording.
    """
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    labels = [str(label) for label in best["parameter"].values]
    wanted = ["bold_noise"] if name == "bold" else [f"sensor_noise_{name}", "sensor_noise"]
    chosen = next((label for label in wanted if label in labels), None)
    channels = "region" if name == "bold" else f"{name}_sensor"
    n = signal.sizes[channels]
    if chosen is None:
        return np.zeros((n, n))
    amplitude = best["estimate"].sel(parameter=chosen).values.astype(np.float64)
    if name == "bold":
        return np.diag(np.broadcast_to(amplitude, n))
    matrix = np.eye(n)
    sensors = [str(label) for label in signal[channels].values]
    reference = str(signal.attrs.get(f"{name}_reference", ""))
    if f"{name}_lead_field" in signal and (reference == "average" or reference in sensors):
        matrix = reference_matrix(reference, sensors, ["eeg" if name == "eeg" else "mag"] * n)
    return float(amplitude.flat[0]) * matrix


def _bold_part(
    series: list[np.ndarray], diverged: list[bool], signal: xr.Dataset, config: Mapping, dt: float
) -> xr.Dataset:
    tr = float(signal.attrs["repetition_time"])
    bold = np.stack(series).astype(np.float32)
    each = [
        None if lost else features(x.astype(float), tr, config["signal"])
        for x, lost in zip(bold, diverged, strict=True)
    ]
    good = [one for one in each if one is not None]
    ds = bold_dataset(
        fc_mean=average_correlations([one["fc"] for one in good], [1.0] * len(good))[None],
        levels=[1.0],
        signal=signal,
        bold=bold,
        each=each,
        template=good[0],
        dt=dt,
        diverged=int(sum(diverged)),
    )
    ds["bold"].attrs["units"] = "1"
    return ds


def _electric_part(
    name: str,
    series: list[np.ndarray],
    diverged: list[bool],
    signal: xr.Dataset,
    stored: Mapping[str, Any],
) -> xr.Dataset:
    rate, unit = float(signal.attrs[f"{name}_sampling_frequency"]), str(signal.attrs[f"{name}_unit"])
    settings = json.loads(signal.attrs[f"{name}_config"])
    each = [
        None if lost else meeg_features(x, rate, settings) for x, lost in zip(series, diverged, strict=True)
    ]
    template = next(one for one in each if one is not None)
    axes = {
        "psd": ("sensor", "frequency"),
        "envelope_fc": ("sensor", "sensor_to"),
        "peak_frequency": ("sensor",),
        "band_power": ("sensor", "band"),
    }
    data: dict[str, Any] = {}
    for key, dims in axes.items():
        lost = np.full_like(np.asarray(template[key]), np.nan)
        stack = np.stack([lost if one is None else np.asarray(one[key]) for one in each])
        data[f"{name}_{key}"] = (
            ("seed", *(f"{name}_{axis}" for axis in dims)),
            stack,
            dict(signal[f"{name}_{key}"].attrs),
        )
    kept, samples = stored_size(series[0].shape, len(series), rate, stored)
    coords: dict[str, Any] = {"seed": ("seed", np.arange(len(series)), {"long_name": "realisation"})}
    for axis in ("sensor", "sensor_to", "frequency", "band"):
        coords[f"{name}_{axis}"] = signal[f"{name}_{axis}"].variable
    if kept:
        data[name] = (
            (f"{name}_seed", f"{name}_time", f"{name}_sensor"),
            np.stack(series[:kept])[:, :samples].astype(np.float32),
            {"units": unit, "long_name": f"simulated {name.upper()}, beginning of the first realisations"},
        )
        coords[f"{name}_seed"] = (f"{name}_seed", np.arange(kept), {"long_name": "realisation"})
        coords[f"{name}_time"] = (f"{name}_time", np.arange(1, samples + 1) / rate, {"units": "s"})
    return xr.Dataset(data, coords=coords)


def stored_size(
    shape: tuple[int, ...], n_realisations: int, rate: float, stored: Mapping[str, Any]
) -> tuple[int, int]:
    """
    How many realisations and samples of EEG or MEG a dataset keeps.

    Parameters
    ----------
    shape : (time, channel)
        Of one realisation.
    n_realisations : int
    rate : float
        Hz.
    stored : mapping
        ``simulate.stored``: ``seeds``, ``duration`` (s).

    Returns
    -------
    realisations, samples : int
        Together at most `MOST_STORED` bytes: samples are fewer where they would be more.

    Examples
    --------
    >>> stored_size((15000, 16), 8, 250.0, {"seeds": 2, "duration": 30.0})
    (2, 7500)
    >>> stored_size((600000, 300), 8, 1000.0, {"seeds": 1, "duration": 600.0})
    (1, 26666)
    """
    kept = min(int(stored["seeds"]), n_realisations)
    samples = min(shape[0], max(1, round(stored["duration"] * rate)))
    most = int(MOST_STORED // (4 * max(kept, 1) * shape[1]))
    return kept, min(samples, max(most, 1))
