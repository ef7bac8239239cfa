"""What a fit of cross-spectra is given: a network on a connectome, recordings, priors and starting values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.errors import ConfigError, DataError
from brainloom.core.modalities import ELECTRIC, UNITS
from brainloom.engine import Arrays
from brainloom.fit.spectral_model import (
    Problem,
    SpectralSetup,
    bold_csd,
    electric_csd,
    network_values,
    parameters,
    stable,
)
from brainloom.fit.spectral_space import DEFAULTS, sensor_noise_names, space_from_config
from brainloom.io.lead_field import reference_matrix
from brainloom.linear.equilibrium import fixed_point, is_found
from brainloom.models import NeuralMass, get_model
from brainloom.network import Network
from brainloom.observe.balloon import VARIANTS

# A dipole in A m is `dipole_gain` (nA m per unit of the observable) times this, times the observable.
NANO = 1e-9
# Share of the power of BOLD that is taken for measurement noise at the start.
NOISE_SHARE = 0.2
# Points in each bin whose mean is that of the spectrum: Gauss-Legendre nodes, exact for cubic spectra.
NODES = 2


def spectral_problem(
    config: Mapping, connectome: xr.Dataset, signal: xr.Dataset
) -> tuple[SpectralSetup, Problem]:
    """
    Static settings and arrays of a subject's fit; the training part of its recording is the target.

    Parameters
    ----------
    config : mapping
        Sections ``modality, model, fit`` and those of the modalities.
    connectome, signal : xarray.Dataset

    Returns
    -------
    setup : SpectralSetup
    problem : dict
        Arrays: ``weights, lengths, guess, values, fixed, start, prior_sd, noise_ratio`` and, for each
        modality, its recording.

    Raises
    ------
    DataError
        Regions differ, the recording lacks a modality, or the network has no stable fixed point at the starting values.
    ConfigError
        A parameter does not exist, or no modality has a weight.
    """
    _check_regions(connectome, signal)
    modalities = fitted_modalities(config, signal)
    model = get_model(config["model"]["name"])
    labels = [str(label) for label in connectome["region"].values]
    network = unit_network(config, connectome)
    time_unit, noisy = network.node.time_unit, noisy_states(config, model)
    space, given = space_from_config(
        config["fit"], model, len(labels), modalities, parameter_units(config, signal, model, time_unit)
    )
    observed = {name: "bold" if name == "bold" else "eeg" for name in modalities}
    setup = SpectralSetup(
        # block and history belong to the time loop; without them subjects share a compiled program
        structure=replace(network.structure("stochastic_heun", 1.0), block=1, length=2),
        time_unit=time_unit,
        space=space,
        observables=tuple(observed.items()),
        gain="" if "k" in [p.name for p in model.PARAMETERS] else "coupling.k",
        noisy=noisy,
    )
    problem = _arrays(setup, config, connectome, signal, network, given)
    return setup, as_arrays(problem)


def as_arrays(problem: Problem) -> Problem:
    """A problem as arrays of jax: numbers in the precision in use, lists of connections as integers."""

    def one(value: Any) -> jax.Array:
        value = np.asarray(value)
        return jnp.asarray(value, {"c": complex, "i": None}.get(value.dtype.kind, float))

    return jax.tree.map(one, problem)


def fitted_modalities(config: Mapping, signal: xr.Dataset) -> list[str]:
    """Modalities of the config that have a weight, all of them in the recording."""
    weights = config["fit"].get("objective", {})
    found = [name for name in config["modality"] if float(weights.get(name, 1.0)) > 0.0]
    if not found:
        raise ConfigError(
            f"fit.objective gives no weight to any of {', '.join(config['modality'])}; set one above 0"
        )
    for name in found:
        if f"{name}_csd" not in signal:
            raise DataError(
                f"sub-{signal.attrs.get('subject', '?')}: the recording has no {name} cross-spectra ({name}_csd); "
                "preprocess it with that modality, or take it out of modality"
            )
    return found


def unit_network(config: Mapping, connectome: xr.Dataset, **node: Any) -> Network:
    """
    The network of a configuration at unit gain, all regions connected, parameters as in the config.

    Every pair is a connection, so that connectomes with different zeros share a compiled program.
    """
    model = get_model(config["model"]["name"])
    lengths = np.asarray(connectome["lengths"].values, float)
    n = len(lengths)
    given = {
        **config["model"].get("parameters", {}),
        **{f"noise_{name}": 1.0 for name in noisy_states(config, model)},
    }
    coupling = config["model"].get("coupling") or {}
    delayed = bool((lengths > 0).any())
    return Network(
        model(n, **{**given, **node}),
        np.ones((n, n)) - np.eye(n),
        # every pair has a delay, those without a tract too: their weight is 0
        distance=np.where(lengths > 0, lengths, lengths.max()) if delayed else None,
        speed=1.0 if delayed else None,
        coupling=coupling.get("kind", "additive"),
        coupled_var=coupling.get("source", "source"),
        port=coupling.get("port"),
    )


def noisy_states(config: Mapping, model: type[NeuralMass]) -> tuple[str, ...]:
    """States that get white noise: those that the model names, or the one that the coupling enters."""
    if model.NOISE:
        return tuple(model.NOISE)
    ports = {port.name: port for port in model.PORTS}
    name = (config["model"].get("coupling") or {}).get("port") or next(iter(ports))
    return (ports[name].enters,)


def noise_start(model: type[NeuralMass], noisy: Sequence[str]) -> dict[str, float]:
    """Amplitude of the white noise of each state where none is given: the model's own, or 1 % of its span."""
    spans = {state.name: 0.01 * (state.span[1] - state.span[0]) for state in model.STATES}
    return {name: float(model.NOISE.get(name, spans[name])) for name in noisy}


def parameter_units(
    config: Mapping, signal: xr.Dataset, model: type[NeuralMass], time_unit: str
) -> dict[str, str]:
    """Units of the parameters that are not the model's."""
    known = model.observables()
    noisy = noisy_states(config, model)[0]
    state = next(one for one in model.STATES if one.name == noisy)
    out = {"k": "1", "speed": "m/s", "noise": f"{state.unit}/sqrt({time_unit})".replace("time", time_unit)}
    bold, eeg = known["bold"].unit, known["eeg"].unit
    out |= {"bold_gain": "1/s" if bold == "1" else f"1/(s*{bold})", "bold_noise": "1"}
    at_sources = any(signal.attrs.get(f"{name}_space") == "region" for name in ELECTRIC)
    moment = "recording" if at_sources else "nA*m"
    out["dipole_gain"] = moment if eeg == "1" else f"{moment}/({eeg})" if "/" in eeg else f"{moment}/{eeg}"
    for name in ELECTRIC:
        own = str(signal.attrs.get(f"{name}_unit", UNITS[name]))
        out[f"sensor_noise_{name}"] = own
        if f"{name}_csd" in signal:
            out.setdefault("sensor_noise", own)
    return out


def _check_regions(connectome: xr.Dataset, signal: xr.Dataset) -> None:
    labels, recorded = list(connectome["region"].values), list(signal["region"].values)
    if labels != recorded:
        raise DataError(
            f"sub-{signal.attrs.get('subject', '?')}: connectome and recording have different regions "
            f"({len(labels)}, starting with {labels[0]}, and {len(recorded)}, starting with {recorded[0]}); "
            "use one atlas for both"
        )


def _arrays(
    setup: SpectralSetup,
    config: Mapping,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    network: Network,
    given: Mapping[str, float | None],
) -> Problem:
    n, model = setup.space.n_regions, type(network.node)
    train = signal.sel(split="train")
    problem: Problem = {
        "weights": connectome["weights"].values * (1.0 - np.eye(n)),
        "lengths": connectome["lengths"].values,
        "values": {name: np.asarray(value) for name, value in network.parameter_values().items()},
        "balloon": dict(VARIANTS["friston2003"]),
        "prior_sd": setup.space.prior_sd(),
    }
    for name in setup.modalities:
        problem[name] = _recording(name, config, train, signal)
    if "bold" in setup.modalities:
        problem["repetition_time"] = float(signal.attrs["repetition_time"])
    amplitude = noise_start(model, setup.noisy)
    first = given.get("noise") or amplitude[setup.noisy[0]]
    problem["noise_ratio"] = {name: amplitude[name] / amplitude[setup.noisy[0]] for name in setup.noisy}
    own = {p.name: problem["values"][p.name] for p in model.PARAMETERS}
    values = {**DEFAULTS, "noise": first, **own, **{k: v for k, v in given.items() if v is not None}}
    regional = {one.name for one in setup.space.entries if one.regional}
    fitted = {one.name for one in setup.space.entries}
    scales = [name for name in given if given[name] is None and name not in values]
    start = {name: np.broadcast_to(values.get(name, 1.0), n if name in regional else np.shape(values.get(name, 1.0)))
             for name in {*values, *scales}}  # fmt: skip
    problem["start"] = {name: start[name] for name in start if name in fitted}
    problem["fixed"] = {name: start[name] for name in start if name not in fitted}
    problem["guess"] = _rest(setup, problem, network, signal)
    for name, value in _scales(setup, problem, scales).items():
        place = "start" if name in fitted else "fixed"
        problem[place][name] = np.broadcast_to(value, np.shape(problem[place][name]))
    return problem


def _recording(name: str, config: Mapping, train: xr.Dataset, signal: xr.Dataset) -> dict[str, Any]:
    """Cross-spectra of one modality, nodes of its bins, and how sources reach it."""
    frequency = np.asarray(signal[f"{name}_csd_frequency"].values, float)
    width = float(np.diff(frequency).min()) if len(frequency) > 1 else 0.0
    nodes, _ = np.polynomial.legendre.leggauss(NODES if width else 1)  # two have equal weights
    found: dict[str, Any] = {
        "node": frequency[:, None] + 0.5 * width * nodes,
        "csd": np.asarray(train[f"{name}_csd"].values, complex),
        "n_tapers": float(train[f"{name}_csd_n"]),
        "weight": float(config["fit"].get("objective", {}).get(name, 1.0)),
    }
    if not np.isfinite(found["csd"]).all():
        raise DataError(
            f"sub-{signal.attrs.get('subject', '?')}: {name}_csd of the training part is not finite; "
            "preprocess the recording with whole segments that are long enough for its bandwidth"
        )
    if name == "bold":
        return found
    labels = [str(label) for label in signal[f"{name}_sensor"].values]
    basis = signal[f"{name}_basis"].values
    at_sensors = f"{name}_lead_field" in signal
    field = NANO * signal[f"{name}_lead_field"].values if at_sensors else np.eye(len(labels))
    reference = str(signal.attrs.get(f"{name}_reference") or "")
    noise = np.eye(len(labels))
    if at_sensors and (reference == "average" or reference in labels):
        matrix = reference_matrix(reference, labels, [name if name == "eeg" else "mag"] * len(labels))
        noise = matrix @ matrix.T
    return found | {
        "sensor_field": field,
        "component_field": basis.T @ field,
        "sensor_noise": noise,
        "component_noise": basis.T @ noise @ basis,
        "sampling_frequency": float(signal.attrs[f"{name}_sampling_frequency"]),
    }


def _rest(
    setup: SpectralSetup, problem: Problem, network: Network, signal: xr.Dataset
) -> dict[str, np.ndarray]:
    """
    Fixed point at the starting values, where every search for one begins.

    Raises
    ------
    DataError
        It is not stable.
    """
    read = ("values", "fixed", "start", "weights", "lengths", "noise_ratio")
    ready = as_arrays({key: problem[key] for key in read})
    values = _start_values(setup, ready)
    guess = {
        name: jnp.asarray(value) for name, value in network.node.initial_values(key=jax.random.key(0)).items()
    }
    state, error = fixed_point(setup.structure, values, guess)
    if not (bool(is_found(error)) and bool(_stable(setup, ready, state))):
        raise DataError(
            f"sub-{signal.attrs.get('subject', '?')}: {setup.structure.model.__name__} has no stable fixed point at the "
            "starting values, so it has no spectra by linear theory; change model.parameters or the start of k"
        )
    return {name: np.asarray(value) for name, value in state.items()}


def _scales(setup: SpectralSetup, problem: Problem, wanted: Sequence[str]) -> dict[str, float]:
    """Gains and noises with which the model at its start has the power of the recording."""
    if not wanted:
        return {}
    own = _powers(setup, as_arrays(problem))
    noises = sensor_noise_names(setup.modalities)
    found: dict[str, float] = {}
    ratios = []
    for name in setup.modalities:
        data = problem[name]
        power = np.real(np.einsum("fii->f", data["csd"])) / data["csd"].shape[-1]
        ratio = float(power.sum() / np.asarray(own[name]).sum())
        if name == "bold":
            found["bold_noise"] = float(np.sqrt(NOISE_SHARE * np.median(power) / problem["repetition_time"]))
            found["bold_gain"] = float(np.sqrt((1.0 - NOISE_SHARE) * ratio))
        else:
            found[noises[name]] = float(np.sqrt(0.5 * power.min() * data["sampling_frequency"]))
            ratios.append(np.sqrt(ratio))
    if ratios:
        found["dipole_gain"] = float(np.exp(np.mean(np.log(ratios))))
    return {name: found[name] for name in wanted if name in found}


@partial(jax.jit, static_argnums=0)
def _powers(setup: SpectralSetup, problem: Problem) -> dict[str, jax.Array]:
    """Power of each modality without measurement noise in the middle of each bin, mean over channels."""
    given = dict(parameters(setup, problem, jnp.zeros(setup.space.size)))
    given |= {name: jnp.zeros(()) for name in given if name.startswith(("bold_noise", "sensor_noise"))}
    rest = (network_values(setup, problem, given), problem["guess"])
    found = {}
    for name in setup.modalities:
        args = (problem, given, setup, rest, problem[name]["node"].mean(axis=1, keepdims=True))
        csd = bold_csd(*args) if name == "bold" else electric_csd(*args, name, "component")
        found[name] = jnp.mean(jnp.real(jnp.diagonal(csd, axis1=1, axis2=2)), axis=1)
    return found


@partial(jax.jit, static_argnums=0)
def _stable(setup: SpectralSetup, problem: Problem, state: Arrays) -> jax.Array:
    return stable(setup, _start_values(setup, problem), state)


@partial(jax.jit, static_argnums=0)
def _start_values(setup: SpectralSetup, problem: Problem) -> Arrays:
    return network_values(setup, problem, parameters(setup, problem, jnp.zeros(setup.space.size)))
