"""Which objectives are likelihoods, and the Fisher information of these in their prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.objectives.base import Objective, scale_to, split_unit
from brainloom.objectives.features import Normal
from brainloom.objectives.likelihood import read_covariance

LIKELIHOODS = ("gaussian", "wishart", "cross_spectra")


def is_likelihood(objective: Any) -> bool | None:
    """
    Whether an objective is a negative log-likelihood.

    Sums of likelihoods with weights of 1 are one of independent data. Correlations are not Wishart distributed, so
    ``wishart(correlation=True)`` is none.

    Returns
    -------
    bool or None
        None for a function that is not of `brainloom.objectives`.
    """
    if not isinstance(objective, Objective):
        ours = str(getattr(objective, "__module__", "")).startswith("brainloom.objectives")
        return False if ours else None
    if objective.name == "on":
        return is_likelihood(objective.options["objective"])
    if objective.name == "combine":
        pairs = objective.options["pairs"]
        if any(np.ndim(weight) or float(weight) != 1.0 for weight, _ in pairs):
            return False
        found = [is_likelihood(one) for _, one in pairs]
        return False if False in found else None if None in found else True
    return objective.name in LIKELIHOODS and not objective.options.get("correlation", False)


def whitened(objective: Objective, prediction: Any, at: Any, target: Any) -> jax.Array:
    """
    A prediction in coordinates where the expected Fisher information of a likelihood is the identity.

    With J the Jacobian of these coordinates in the parameters, the information is ``J' J``: ``m / sd`` and
    ``sqrt(2) log(sd)`` for normal data, ``sqrt(nu / 2) L^-1 S L^-T`` for a covariance S = L L' of nu degrees of
    freedom, ``sqrt(K) L^-1 S L^-H`` for cross-spectra of K tapers.

    Parameters
    ----------
    objective : Objective
        One that `is_likelihood` says True of.
    prediction, at : Any
        The prediction, and the same at the point where the information is wanted.
    target : Any

    Returns
    -------
    (number,) real array
    """
    options = objective.options
    if objective.name == "combine":
        return jnp.concatenate([whitened(one, prediction, at, target) for _, one in options["pairs"]])
    if objective.name == "on":
        key, place = options["key"], options["target"]
        own = target[place] if isinstance(target, Mapping) else target
        return whitened(options["objective"], prediction[key], at[key], own)
    if objective.name == "gaussian":
        return _of_normal(prediction, at, target, options["sd"])
    if objective.name == "wishart":
        who = objective.name
        dof = (
            options["dof"]
            if options["dof"] is not None
            else read_covariance(target, who, "target", False, False)[2]
        )
        pair = [_with_ridge(value, who, options["ridge"]) for value in (prediction, at)]
        return (_by_cholesky(*pair) * jnp.sqrt(0.5 * jnp.asarray(dof))).ravel()
    count = target.n_tapers if options["n_tapers"] is None else options["n_tapers"]
    white = _by_cholesky(split_unit(prediction.values)[0], split_unit(at.values)[0])
    white = white * jnp.sqrt(jnp.broadcast_to(jnp.asarray(count, float), white.shape[:1]))[:, None, None]
    return jnp.concatenate([jnp.real(white).ravel(), jnp.imag(white).ravel()])


def _of_normal(prediction: Any, at: Any, target: Any, sd: Any) -> jax.Array:
    data, wanted = split_unit(target)
    own = isinstance(prediction, Normal)

    def noise(value: Any) -> jax.Array:
        plain, unit = split_unit(value)
        return plain * scale_to(unit, wanted) if isinstance(value, u.Quantity) else plain

    mean, unit = split_unit(prediction.mean if own else prediction)
    there = noise(at.sd if own else sd)
    parts = [mean * scale_to(unit, wanted) / there]
    if own:
        parts.append(jnp.sqrt(2.0) * noise(prediction.sd) / there)
    return jnp.concatenate([jnp.broadcast_to(part, data.shape).ravel() for part in parts])


def _with_ridge(value: Any, who: str, ridge: float) -> jax.Array:
    matrix = read_covariance(value, who, "prediction", False, ridge == 0.0)[0]
    return matrix + ridge * jnp.mean(jnp.diagonal(matrix)) * jnp.eye(len(matrix), dtype=matrix.dtype)


def _by_cholesky(matrix: jax.Array, at: jax.Array) -> jax.Array:
    """``L^-1 S L^-H`` with the Cholesky factor L of another matrix."""
    root = jnp.linalg.cholesky(at)
    half = jax.scipy.linalg.solve_triangular(root, matrix.astype(root.dtype), lower=True)
    back = jnp.conj(jnp.swapaxes(half, -1, -2))
    return jnp.conj(jnp.swapaxes(jax.scipy.linalg.solve_triangular(root, back, lower=True), -1, -2))
