"""Cross-spectra that a network predicts for BOLD, EEG and MEG: pure functions of the coordinates of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from brainloom.engine import Arrays, Structure
from brainloom.fit.spectral_space import SpectralSpace, sensor_noise_names
from brainloom.linear.equilibrium import fixed_point, is_found
from brainloom.linear.linearised import linearise
from brainloom.linear.measured import sensor_spectra
from brainloom.linear.stability import is_stable
from brainloom.linear.transfer import cross_spectra
from brainloom.objectives.likelihood import whittle
from brainloom.observe.balloon import transfer

Problem = dict[str, Any]  # arrays: see `brainloom.fit.spectral_problem`
# Folded copies of the spectrum above the Nyquist frequency of BOLD that are added; haemodynamics damp the others.
ALIASES = (-1, 0, 1)


@dataclass(frozen=True)
class SpectralSetup:
    """
    The static part of a fit: what a compiled program depends on besides shapes.

    Attributes
    ----------
    structure : Structure
        Of the network.
    time_unit : str
        Of the model.
    space : SpectralSpace
    observables : tuple of (modality, observable)
        Modalities that are fitted, and what of the model each measures.
    gain : str
        Name of the global coupling among the values of the network; empty for models with a parameter k of their
        own, whose coupling is 1.
    noisy : tuple of str
        States that get the white noise.
    """

    structure: Structure
    time_unit: str
    space: SpectralSpace
    observables: tuple[tuple[str, str], ...]
    gain: str
    noisy: tuple[str, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that are fitted."""
        return tuple(name for name, _ in self.observables)


class Point(NamedTuple):
    """
    Objective at one point of the search.

    Attributes
    ----------
    value : scalar
        Negative log posterior density, infinite where the network has no stable fixed point.
    gradient : (size,) array
    fisher : (size, size) array
        Fisher information of the recordings (without the prior).
    """

    value: jax.Array
    gradient: jax.Array
    fisher: jax.Array


def parameters(setup: SpectralSetup, problem: Problem, theta: jax.Array) -> Arrays:
    """Constrained values of all parameters by name, fitted and fixed."""
    return problem["fixed"] | setup.space.values(theta, problem["start"])


def network_values(setup: SpectralSetup, problem: Problem, given: Arrays) -> Arrays:
    """What the network's structure reads: constrained parameters as plain arrays."""
    values = dict(problem["values"])
    values |= {name: value for name, value in given.items() if name in values}
    values["weights"] = problem["weights"]
    if setup.gain:
        values[setup.gain] = given["k"]
    values |= {f"noise_{name}": given["noise"] * problem["noise_ratio"][name] for name in setup.noisy}
    if "delay" in values:
        per_unit = 1.0 if setup.time_unit == "ms" else 1e-3
        values["delay"] = problem["lengths"] / given["speed"] * per_unit
    return values


def rest_state(setup: SpectralSetup, values: Arrays, guess: Arrays) -> tuple[Arrays, jax.Array]:
    """Fixed point, and whether it was found."""
    state, error = fixed_point(setup.structure, values, guess)
    return state, is_found(error)


def spectra(
    setup: SpectralSetup, values: Arrays, state: Arrays, name: str, frequency: jax.Array
) -> jax.Array:
    """Cross-spectral density of one observable, (f, region, region)."""
    linear = linearise(setup.structure, values, state, (name,))
    return cross_spectra(linear, frequency, setup.time_unit)[name, name]


def bold_csd(
    problem: Problem, given: Arrays, setup: SpectralSetup, rest: tuple[Arrays, Arrays], node: jax.Array
) -> jax.Array:
    """
    Cross-spectra of BOLD as it is recorded: haemodynamics around rest, sampling, measurement noise.

    Neural spectra hardly change over a bin, so they are taken in its middle; haemodynamics at its nodes. Vessels rest
    where the network does (`brainloom.linear.measured.bold_spectra` has a baseline of its own).

    Parameters
    ----------
    problem : dict
    given : dict of arrays
        From `parameters`.
    setup : SpectralSetup
    rest : (values, state)
    node : (f, node) array
        Hz; the spectrum of a bin is the mean over its nodes.

    Returns
    -------
    (f, region, region) complex array, (relative change)^2/Hz
    """
    tr = problem["repetition_time"]
    shift = jnp.asarray(ALIASES) / tr
    middle = (jnp.mean(node, axis=1)[:, None] + shift).reshape(-1)
    neural = spectra(setup, *rest, dict(setup.observables)["bold"], middle)
    n = neural.shape[-1]
    each = (node[:, None, :] + shift[:, None]).reshape(-1)
    gain = jnp.broadcast_to(given["bold_gain"] * transfer(problem["balloon"], each), (len(each), n))
    gain = gain.reshape(len(middle), node.shape[1], n)
    pair = jnp.einsum("fqi,fqj->fij", gain, jnp.conj(gain)) / node.shape[1]
    seen = jnp.sum((pair * neural).reshape(len(node), len(ALIASES), n, n), axis=1)
    return seen + jnp.diag(jnp.broadcast_to(given["bold_noise"] ** 2 * tr, (n,)))


def electric_csd(
    problem: Problem,
    given: Arrays,
    setup: SpectralSetup,
    rest: tuple[Arrays, Arrays],
    node: jax.Array,
    modality: str,
    at: str,
) -> jax.Array:
    """
    Cross-spectra of EEG or MEG: sources through the lead field, and sensor noise.

    Parameters
    ----------
    problem, given, setup, rest, node : see `bold_csd`
    modality : str
    at : {"component", "sensor"}
        In the basis that is fitted, or at sensors.

    Returns
    -------
    (f, n, n) complex array, (unit of the recording)^2/Hz
    """
    arrays = problem[modality]
    neural = spectra(setup, *rest, dict(setup.observables)[modality], node.reshape(-1))
    # what a multitaper estimate sees of a bin is the mean of the spectrum over it
    neural = jnp.mean(neural.reshape(*node.shape, *neural.shape[1:]), axis=1)
    field = arrays[f"{at}_field"] * given["dipole_gain"]
    noise = given[sensor_noise_names(setup.modalities)[modality]]
    return sensor_spectra(neural, field, noise**2 / arrays["sampling_frequency"] * arrays[f"{at}_noise"])


def predict(setup: SpectralSetup, problem: Problem, theta: jax.Array) -> tuple[dict[str, jax.Array], Any]:
    """
    Cross-spectra of every modality in the bins of the recordings.

    Returns
    -------
    csd : dict of (f, n, n) complex arrays
    rest : (values, state, found)
    """
    given = parameters(setup, problem, theta)
    values = network_values(setup, problem, given)
    state, found = rest_state(setup, values, problem["guess"])
    out = {}
    for name in setup.modalities:
        args = (problem, given, setup, (values, state), problem[name]["node"])
        out[name] = bold_csd(*args) if name == "bold" else electric_csd(*args, name, "component")
    return out, (values, state, found)


def objective(
    setup: SpectralSetup, problem: Problem, theta: jax.Array, csd: dict[str, jax.Array], rest: Any
) -> jax.Array:
    """
    Negative log posterior density: `whittle` of each modality times its weight, and the Gaussian prior.

    Infinite where the network has no fixed point or an unstable one. `csd` and `rest` are from `predict`.
    """
    values, state, found = rest
    total = 0.5 * jnp.sum((theta / problem["prior_sd"]) ** 2)
    for name in setup.modalities:
        data = problem[name]
        total = total + data["weight"] * whittle(csd[name], data["csd"], data["n_tapers"])
    good = found & stable(setup, values, state) & jnp.isfinite(total)
    return jnp.where(good, total, jnp.inf)


def stable(setup: SpectralSetup, values: Arrays, state: Arrays) -> jax.Array:
    """Whether the fixed point is stable, delays included."""
    values, state = jax.lax.stop_gradient((values, state))
    return is_stable(linearise(setup.structure, values, state), setup.time_unit)


def point(setup: SpectralSetup, problem: Problem, theta: jax.Array) -> Point:
    """
    Objective, its gradient, and the Fisher information, from one pass of forward differentiation.

    For a complex Wishart matrix of K degrees of freedom around S the information is ``K tr(S^-1 dS S^-1 dS')``
    summed over frequencies (Whittle 1953).
    """

    def both(theta: jax.Array) -> tuple[dict, tuple]:
        csd, rest = predict(setup, problem, theta)
        return csd, (csd, rest)

    slopes, (csd, rest) = jax.jacfwd(both, has_aux=True)(theta)
    gradient = theta / problem["prior_sd"] ** 2
    fisher = jnp.zeros((len(theta), len(theta)), theta.dtype)
    for name in setup.modalities:
        data = problem[name]
        counts = data["weight"] * data["n_tapers"]
        whiten = _whitener(csd[name])
        inner = jnp.einsum("fab,fbcp,fdc->pfad", whiten, slopes[name], jnp.conj(whiten), optimize="optimal")
        excess = jnp.eye(csd[name].shape[-1]) - whiten @ data["csd"] @ jnp.conj(jnp.swapaxes(whiten, -1, -2))
        gradient = gradient + counts * jnp.real(jnp.einsum("pfab,fba->p", inner, excess))
        flat = inner.reshape(len(theta), -1)
        fisher = fisher + counts * jnp.real(flat @ jnp.conj(flat).T)
    return Point(objective(setup, problem, theta, csd, rest), gradient, fisher)


def _whitener(csd: jax.Array) -> jax.Array:
    """Inverse of the Cholesky factor of each matrix."""
    factor = jnp.linalg.cholesky(csd)
    eye = jnp.broadcast_to(jnp.eye(csd.shape[-1], dtype=csd.dtype), csd.shape)
    return jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
