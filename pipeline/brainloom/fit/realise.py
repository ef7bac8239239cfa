"""Simulate a fitted subject: the full nonlinear stochastic network, seen through the data's pipeline."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.analysis.fc import average_correlations
from brainloom.analysis.features import features
from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.linear.jacobian import network_jacobian
from brainloom.linear.lyapunov import lyapunov
from brainloom.models import NeuralMass, get_model
from brainloom.network import Network
from brainloom.simulate import Simulator
from brainloom.stiffness import stable_step

CHECK_FEATURES = ("fc", "lag1", "fcd", "psd", "variance", "metastability")


def fitted_network(connectome: xr.Dataset, fit: xr.Dataset, noise_factor: float = 1.0) -> Network:
    """
    The network at a subject's best fit.

    Parameters
    ----------
    connectome, fit : xarray.Dataset
    noise_factor : float
        Factor of the noise variance.

    Returns
    -------
    Network
        Diffusively coupled; `HopfStep` couples both of its variables. Time in seconds.
    """
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    value = {str(name): best["estimate"].sel(parameter=name).values for name in best["parameter"].values}
    homotope = connectome["homotope"].values
    base = connectome["weights"].values.copy()
    pairs = np.flatnonzero(homotope >= 0)
    base[pairs, homotope[pairs]] += value["homotopic"][pairs]
    weights = (value["coupling"] * value["gain_in"])[:, None] * base * value["gain_out"][None, :]

    model = get_model(str(fit.attrs["model"]))
    parameters: dict[str, Any] = {p.name: value[p.name] for p in model.PARAMETERS if p.name in value}
    if "w" in [p.name for p in model.PARAMETERS]:
        parameters["w"] = 2.0 * np.pi * fit["frequency_hz"].values
    return diffusive_network(model, weights, parameters, value["noise"] * np.sqrt(noise_factor))


def diffusive_network(
    model: type[NeuralMass], weights: Any, parameters: Mapping[str, Any], noise: Any
) -> Network:
    """
    Regions of a model, all of whose variables are coupled diffusively, with the same noise in each.

    Parameters
    ----------
    model : type of NeuralMass
    weights : (region, region) array, 1/s
    parameters : mapping of str to (region,) array
        Of the model, time in seconds.
    noise : (region,) array, state/sqrt(s)

    Returns
    -------
    Network
        Arrays may be traced.
    """
    names = model.state_names()
    given = dict(parameters) | {f"noise_{name}": noise for name in names}
    node = model(len(weights), time_unit="s", **given)
    return Network(node, weights, coupling="diffusive", coupled_var=names)


def stationary_start(network: Network, batch_size: int, key: jax.Array) -> dict[str, jax.Array]:
    """
    Draws from the linearised network's stationary state, so that no long transient is needed.

    Parameters
    ----------
    network : Network
        As `fitted_network` makes it.
    batch_size : int
    key : jax.random key

    Returns
    -------
    dict of (batch, region) arrays
    """
    structure = network.structure("stochastic_heun", 1.0)
    params = network.parameter_values()
    names = network.node.state_names()
    n = network.n_regions
    origin = {name: jnp.zeros(n) for name in names}
    jacobian = network_jacobian(structure, params, origin)
    amplitude = jnp.concatenate([jnp.broadcast_to(params[f"noise_{name}"], n) for name in names])
    covariance = lyapunov(jacobian, jnp.diag(amplitude**2))
    # lower triangular, so unique: roots made of eigenvectors have signs that differ between machines
    root = jnp.linalg.cholesky(covariance + _rounding(covariance) * jnp.eye(len(covariance)))
    draws = jax.vmap(lambda m: jax.random.normal(jax.random.fold_in(key, m), (len(covariance),)))
    flat = draws(jnp.arange(batch_size)) @ root.T
    return {name: flat[:, k * n : (k + 1) * n] for k, name in enumerate(names)}


def _rounding(matrix: jax.Array) -> jax.Array:
    """What keeps a covariance positive definite after rounding, also in single precision."""
    return len(matrix) * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.diag(matrix))


def fastest_rate(network: Network) -> float:
    """Bound of the largest |eigenvalue| of the Jacobian at 0 (Gershgorin), 1/s."""
    params = network.parameter_values()
    local = jnp.abs(params["a" if "a" in params else "gamma"])
    turning = jnp.abs(params["w"]) if "w" in params else 0.0
    return float(jnp.max(local + turning + 2.0 * jnp.sum(params["weights"], axis=1)))


def run_network(
    network: Network,
    settings: Mapping,
    tr: float,
    n_frames: int,
    batch_size: int,
    *,
    key: jax.Array,
    start_key: jax.Array,
) -> tuple[np.ndarray, float]:
    """
    Realisations of a network from its stationary state, sampled as a scanner does.

    Parameters
    ----------
    network : Network
        As `fitted_network` makes it.
    settings : mapping
        ``dt`` and ``transient``, s.
    tr : float
        Repetition time in s.
    n_frames, batch_size : int
    key, start_key : jax.random key
        Of the noise and of the initial state.

    Returns
    -------
    bold : (batch, time, region) float32 array
        Not finite where a realisation has diverged.
    dt : float
        The step that was taken, s.
    """
    with warnings.catch_warnings(record=True):  # the step that was taken is written into the dataset
        warnings.simplefilter("always")
        dt = stable_step(settings["dt"], fastest_rate(network))
    start = stationary_start(network, batch_size, start_key)
    transient = math.ceil(settings["transient"] / tr - 1e-9) * tr  # whole frames, so that dt divides it
    with warnings.catch_warnings():  # realisations that diverge are counted in the dataset
        warnings.simplefilter("ignore")
        run = Simulator(network, dt, method="stochastic_heun").run(
            n_frames * tr + transient,
            key=key,
            sample_every=tr,
            transient=transient,
            batch_size=batch_size,
            monitors=["bold"],
            initial=start,
            check=False,
        )
    with np.errstate(over="ignore"):  # what single precision cannot hold has diverged too
        return np.asarray(jnp.swapaxes(run["bold"], 0, 1)).astype(np.float32), dt


def simulate_subject(
    subject: str, connectome: xr.Dataset, signal: xr.Dataset, fit: xr.Dataset, config: Mapping
) -> xr.Dataset:
    """
    Realisations with fresh noise at the fitted parameters, of the length of the test part.

    Parameters
    ----------
    subject : str
        Label.
    connectome, signal, fit : xarray.Dataset
    config : mapping
        Sections ``model, simulate, signal`` and ``seed``.

    Returns
    -------
    xarray.Dataset
        ``bold(seed, time, region)`` and its features at ``model.noise_level``, ``fc_mean(noise_level, region,
        region_to)`` at every level of ``simulate.noise_levels``.

    Raises
    ------
    DataError
        All realisations diverged.
    """
    settings, tr = config["simulate"], float(signal.attrs["repetition_time"])
    main, levels = config["model"]["noise_level"], list(settings["noise_levels"])
    n_frames = int(signal["n_frames"].sel(split="test"))
    scored: dict = {}
    fc_mean = []
    for level in levels:
        network = fitted_network(connectome, fit, level / main)
        key = named_key(config["seed"], "simulate", subject, f"{level:g}")
        bold, dt = run_network(
            network,
            settings,
            tr,
            n_frames,
            settings["seeds"],
            key=key,
            start_key=named_key(config["seed"], "start", subject, f"{level:g}"),
        )
        bad = np.atleast_1d(~np.isfinite(bold).all(axis=(1, 2)))
        if bad.all():
            raise DataError(
                f"sub-{subject}: all {len(bad)} simulations diverged at noise level {level:g} with dt {dt:g} s; "
                "lower simulate.dt or simulate.noise_levels"
            )
        each = [
            None if lost else features(x.astype(float), tr, config["signal"])
            for x, lost in zip(bold, bad, strict=True)
        ]
        good = [one for one in each if one is not None]
        fc_mean.append(average_correlations([one["fc"] for one in good], [1.0] * len(good)))
        if level == main:
            scored = {"bold": bold, "each": each, "template": good[0], "dt": dt, "diverged": int(bad.sum())}
    return bold_dataset(fc_mean=np.stack(fc_mean), levels=levels, signal=signal, **scored)


def bold_dataset(
    *,
    bold: np.ndarray,
    each: list,
    template: dict,
    fc_mean: np.ndarray,
    levels: list[float],
    signal: xr.Dataset,
    dt: float,
    diverged: int,
) -> xr.Dataset:
    """The simulation dataset; a diverged realisation has NaN features."""

    def stack(name: str) -> np.ndarray:
        lost = np.full_like(np.asarray(template[name], float), np.nan)
        return np.stack([lost if one is None else np.asarray(one[name]) for one in each])

    dims = {
        "fc": ("region", "region_to"),
        "lag1": ("region", "region_to"),
        "fcd": ("window", "window_to"),
        "psd": ("region", "frequency"),
        "variance": ("region",),
        "metastability": (),
    }
    data = {name: (("seed", *dims[name]), stack(name), dict(signal[name].attrs)) for name in CHECK_FEATURES}
    data["fcd"] = (data["fcd"][0], data["fcd"][1].astype(np.float32), data["fcd"][2])
    data["bold"] = (
        ("seed", "time", "region"),
        bold,
        {
            "units": "state",
            "long_name": "simulated BOLD, one realisation of the length of the test part a seed",
        },
    )
    data["fc_mean"] = (
        ("noise_level", "region", "region_to"),
        fc_mean,
        {"units": "1", "long_name": "FC averaged over realisations (Fisher z)"},
    )
    tr = float(signal.attrs["repetition_time"])
    labels = signal["region"].values.astype(str)
    coords = {
        "seed": ("seed", np.arange(len(bold)), {"long_name": "realisation"}),
        "time": ("time", tr * np.arange(1, bold.shape[1] + 1), {"units": "s"}),
        "region": ("region", labels),
        "region_to": ("region_to", labels),
        "frequency": ("frequency", template["frequency"], {"units": "Hz"}),
        "noise_level": ("noise_level", np.asarray(levels), {"units": "1"}),
    }
    attrs = {"dt": dt, "n_realisations": len(bold), "diverged": diverged, "repetition_time": tr}
    return xr.Dataset(data, coords=coords, attrs=attrs)
