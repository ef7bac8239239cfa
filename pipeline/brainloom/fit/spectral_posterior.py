"""What the cross-spectra of a subject identify: intervals of its parameters, and directions that are not told apart."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import scipy.stats
import xarray as xr

from brainloom.fit.posterior import IDENTIFIED, WEAKLY
from brainloom.fit.spectral_problem import spectral_problem


def posterior_spectral(
    connectome: xr.Dataset, signal: xr.Dataset, fit: xr.Dataset, config: Mapping
) -> xr.Dataset:
    """
    Intervals and identifiability of a subject's best fit.

    The posterior is Gaussian in the coordinates of the fit, with the precision ``F + diag(1 / prior_sd^2)``: F is
    the Fisher information of the cross-spectra at the optimum (exact for complex Wishart matrices). Intervals are
    transformed to the units of the parameters, so they stay within bounds.

    Parameters
    ----------
    connectome, signal, fit : xarray.Dataset
    config : mapping
        Sections ``modality, model, fit, identify``.

    Returns
    -------
    xarray.Dataset
        ``estimate, lower, upper, sd, contraction, identified (parameter, region)`` of the fitted parameters
        (global ones repeated over regions; `sd` in coordinates, log units for positive parameters),
        ``correlation(coefficient, coefficient_to)`` of the posterior, and the eigensystem of F in units of the prior,
        ``eigenvalue(direction)`` and ``eigenvector(direction, coefficient)``.
    """
    setup, problem = spectral_problem(config, connectome, signal)
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    theta = jnp.asarray(best["theta"].values)
    fisher = best["fisher"].values
    prior = setup.space.prior_sd()
    level = float(config["identify"]["level"])

    # in units of the prior, so that parameters of different scale can be told apart
    scaled = fisher * prior[:, None] * prior[None, :]
    covariance = np.linalg.inv(scaled + np.eye(len(prior)))
    share = np.sqrt(np.diag(covariance))
    sd = share * prior
    eigenvalue, eigenvector = np.linalg.eigh(scaled)
    quantile = scipy.stats.norm.ppf(0.5 + 0.5 * level)

    names = [one.name for one in setup.space.entries]
    n = setup.space.n_regions

    def table(at: np.ndarray) -> np.ndarray:
        values = setup.space.values(jnp.asarray(at), problem["start"])
        return np.stack([np.broadcast_to(np.asarray(values[name]), n) for name in names])

    def spread(values: np.ndarray) -> np.ndarray:
        found = setup.space.unpack(jnp.asarray(values))
        return np.stack([np.broadcast_to(np.asarray(found[name]), n) for name in names])

    at = np.asarray(theta)
    ends = np.stack([table(at - quantile * sd), table(at + quantile * sd)])
    contraction = 1.0 - spread(share)
    identified = np.where(contraction >= IDENTIFIED, "yes", np.where(contraction >= WEAKLY, "weak", "no"))
    field = ("parameter", "region")
    labels = [str(label) for label in connectome["region"].values]
    coordinates = np.array(setup.space.labels(labels), dtype=str)
    data = {
        "estimate": (field, table(at), {"long_name": "estimate"}),
        "lower": (field, ends.min(axis=0), {"long_name": "lower end of the interval"}),
        "upper": (field, ends.max(axis=0), {"long_name": "upper end of the interval"}),
        "sd": (field, spread(sd), {"units": "1", "long_name": "standard deviation of the coordinate"}),
        "contraction": (field, contraction, {"units": "1", "long_name": "1 - sd / sd(prior)"}),
        "identified": (field, identified.astype(str), {"long_name": "whether the data identify it"}),
        "correlation": (
            ("coefficient", "coefficient_to"),
            covariance / share[:, None] / share[None, :],
            {"units": "1", "long_name": "correlation of the posterior"},
        ),
        "eigenvalue": (
            ("direction",),
            eigenvalue[::-1],
            {
                "units": "1",
                "long_name": "Fisher information along a direction, relative to that of the prior",
            },
        ),
        "eigenvector": (
            ("direction", "coefficient"),
            eigenvector.T[::-1],
            {"units": "1", "long_name": "direction in coordinates, in units of the prior's sd"},
        ),
    }
    coords = {
        "parameter": ("parameter", np.array(names, dtype=str)),
        "scope": ("parameter", best["scope"].sel(parameter=names).values.astype(str)),
        "unit": ("parameter", best["unit"].sel(parameter=names).values.astype(str)),
        "region": ("region", np.array(labels, dtype=str)),
        "coefficient": ("coefficient", coordinates),
        "coefficient_to": ("coefficient_to", coordinates),
        "direction": ("direction", np.arange(setup.space.size)),
    }
    attrs = {"level": level, "route": "spectrum"}
    return xr.Dataset(data, coords=coords, attrs=attrs)
