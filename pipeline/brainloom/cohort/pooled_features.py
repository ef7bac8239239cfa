"""What pooled fits say of features that they were not fitted to: lagged correlations, spectra, variances."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.cohort.pooled_model import PooledSetup
from brainloom.fit.predict import constrained, jacobian_and_noise, seen_features
from brainloom.fit.predictors import BOLD_FEATURES
from brainloom.fit.problem import Problem


@partial(jax.jit, static_argnums=0)
def pooled_features(
    setup: PooledSetup, problem: Problem, theta: jax.Array, frequency: jax.Array
) -> dict[str, jax.Array]:
    """
    Features of a pooled model in the units of those of the data, as the fit of a subject by itself has them.

    Parameters
    ----------
    setup : PooledSetup
    problem : dict of arrays
        See `brainloom.fit.problem.make_problem`.
    theta : (size,) array
    frequency : (frequency,) array
        Hz, evenly spaced.

    Returns
    -------
    dict
        ``lag1`` (region, region) and ``variance`` (region,) through the band, ``psd`` (region, frequency).
    """
    values = constrained(setup.own, problem, theta[: setup.own.space.size])
    jacobian, noise = jacobian_and_noise(setup.own, problem, values)
    shared = jnp.sqrt(noise)[:, None] * setup.loadings(theta)
    return seen_features(problem, jacobian, jnp.diag(noise) + shared @ shared.T, frequency)


def with_features(
    ds: xr.Dataset, setup: PooledSetup, problem: Problem, theta: np.ndarray, frequency: np.ndarray
) -> xr.Dataset:
    """
    Add ``lag1_model, variance_model, psd_model`` to the pooled dataset of a subject.

    Parameters
    ----------
    ds : xarray.Dataset
        From `brainloom.cohort.pooled_dataset.subject_dataset`.
    setup, problem, theta, frequency
        See `pooled_features`.
    """
    found = pooled_features(setup, problem, jnp.asarray(theta), jnp.asarray(frequency))
    for name, values in found.items():
        target, dims, unit, text = BOLD_FEATURES[name]
        ds[target] = (dims, np.asarray(values), {"units": unit, "long_name": text})
    return ds.assign_coords(frequency=("frequency", np.asarray(frequency), {"units": "Hz"}))
