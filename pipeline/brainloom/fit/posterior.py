"""The posterior dataset of a subject: intervals in the units of the parameters."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import xarray as xr

from brainloom.fit.fc_errors import laplace
from brainloom.fit.predict import constrained
from brainloom.fit.problem import FitSetup, Problem
from brainloom.fit.subject import gauged, subject_problem, subject_setup

# DESIGN of the tables: share of the prior's sd that the data take away.
IDENTIFIED, WEAKLY = 0.5, 0.1


def _noise_slopes(setup: FitSetup, problem: Problem, theta: jax.Array, config: Mapping) -> np.ndarray:
    """
    Derivative of the log of the reported noise in the coordinates, (region, size).

    FC tells the noise up to a factor, which the gauge fixes: it depends on all coordinates, and so the noise does.
    """

    def log_factor(at: jax.Array) -> jax.Array:
        free, fixed = (
            values["noise"][0]
            for values in (constrained(setup, problem, at), gauged(setup, problem, at, config))
        )
        return jnp.log(fixed / free)

    own = jax.jacfwd(lambda at: jnp.broadcast_to(setup.space.unpack(at)["noise"], setup.space.n_regions))(
        theta
    )
    return np.asarray(own + jax.grad(log_factor)(theta))


def posterior_dataset(
    connectome: xr.Dataset, signal: xr.Dataset, fit: xr.Dataset, config: Mapping
) -> xr.Dataset:
    """
    Intervals and identifiability of a subject's best fit.

    Parameters
    ----------
    connectome, signal, fit : xarray.Dataset
    config : mapping
        Sections ``model, fit, identify, signal``.

    Returns
    -------
    xarray.Dataset
        ``estimate, lower, upper, sd, contraction, identified (parameter, region)`` of the fitted parameters
        (global ones repeated over regions; `sd` in log units, of the noise with the scale that the gauge gives it), ``eigenvalue(direction)`` and
        ``eigenvector(direction, coefficient)``.
    """
    setup = subject_setup(config, connectome)
    problem = subject_problem(setup, config, connectome, signal)
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    theta = jnp.asarray(best["theta"].values)
    settings = config["identify"]
    found = laplace(
        setup, problem, theta, float(signal["effective_dof"].sel(split="train")), settings["prior_sd"]
    )
    sd = np.asarray(found.sd)
    quantile = scipy.stats.norm.ppf(0.5 + 0.5 * settings["level"])
    centre, low, high = (
        constrained(setup, problem, theta + shift * quantile * sd) for shift in (0.0, -1.0, 1.0)
    )

    names = [str(name) for name in best["parameter"].values[best["fitted"].values]]
    labels = [str(label) for label in connectome["region"].values]
    own = ["local" if name == setup.local else name for name in names]
    n = len(labels)
    estimate = best["estimate"].sel(parameter=names).values
    ends = [
        np.stack([estimate[k] * np.asarray(end[o] / centre[o]) for k, o in enumerate(own)])
        for end in (low, high)
    ]
    spread, width = (
        setup.space.unpack(jnp.asarray(sd)),
        setup.space.unpack(jnp.asarray(setup.space.prior_sd())),
    )
    sds = np.stack([np.broadcast_to(np.asarray(spread[name]), n) for name in own])
    priors = settings["prior_sd"] * np.stack([np.broadcast_to(np.asarray(width[name]), n) for name in own])
    if "noise" in own:
        k, slopes = own.index("noise"), _noise_slopes(setup, problem, theta, config)
        sds[k] = np.sqrt(np.einsum("ri,ij,rj->r", slopes, np.asarray(found.error), slopes))
        priors[k] = np.linalg.norm(slopes * settings["prior_sd"] * setup.space.prior_sd(), axis=1)
        for end, sign in zip(ends, (-1.0, 1.0), strict=True):
            end[k] = estimate[k] * np.exp(sign * quantile * sds[k])
    contraction = 1.0 - sds / priors
    identified = np.where(contraction >= IDENTIFIED, "yes", np.where(contraction >= WEAKLY, "weak", "no"))

    field = ("parameter", "region")
    data = {
        "estimate": (field, estimate, {"long_name": "estimate"}),
        "lower": (field, np.minimum(*ends), {"long_name": "lower end of the interval"}),
        "upper": (field, np.maximum(*ends), {"long_name": "upper end of the interval"}),
        "sd": (field, sds, {"units": "1", "long_name": "standard error of the log parameter"}),
        "contraction": (field, contraction, {"units": "1", "long_name": "1 - sd / sd(prior)"}),
        "identified": (field, identified.astype(str), {"long_name": "whether the data identify it"}),
        "eigenvalue": (
            ("direction",),
            np.asarray(found.eigenvalue),
            {"units": "1", "long_name": "Fisher information along a direction of log parameters"},
        ),
        "eigenvector": (
            ("direction", "coefficient"),
            np.asarray(found.eigenvector),
            {"units": "1", "long_name": "direction in log parameters"},
        ),
    }
    coords = {
        "parameter": ("parameter", np.array(names, dtype=str)),
        "scope": ("parameter", best["scope"].sel(parameter=names).values.astype(str)),
        "unit": ("parameter", best["unit"].sel(parameter=names).values.astype(str)),
        "region": ("region", np.array(labels, dtype=str)),
        "coefficient": ("coefficient", np.array(setup.space.labels(labels, local=setup.local), dtype=str)),
        "direction": ("direction", np.arange(setup.space.size)),
    }
    attrs = {"level": float(settings["level"]), "prior_sd": float(settings["prior_sd"])}
    return xr.Dataset(data, coords=coords, attrs=attrs)
