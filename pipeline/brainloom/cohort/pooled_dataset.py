"""Datasets of pooled fits: one a subject, and one of what was chosen and learned in the cohort."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.cohort.pool import Pooled
from brainloom.cohort.pooled_stage import Member
from brainloom.core.errors import DataError
from brainloom.fit.predict import constrained
from brainloom.fit.subject import UNITS

Variables = dict[str, tuple]


def subject_dataset(found: Pooled, member: Member, place: int, labels: Sequence[str]) -> xr.Dataset:
    """
    The pooled fit of one subject.

    Parameters
    ----------
    found : Pooled
    member : Member
    place : int
        Of the subject among the members.
    labels : sequence of str
        Regions.

    Returns
    -------
    xarray.Dataset
        ``fc_model(region, region_to)``; ``estimate, prior_estimate(parameter, region)`` in their units, up to the
        scale of the noise; ``common, common_prior(region, input)``; ``loss(step)``.

    Raises
    ------
    DataError
        The fit diverged.
    """
    outcome = found.outcomes[place]
    if not np.isfinite(outcome.loss):
        raise DataError(
            f"sub-{member.subject}: the pooled fit diverged; check the recording, or raise pool.lambda"
        )
    own = found.setup.own
    names = ["coupling", "homotopic", own.local, "noise", "gain_in", "gain_out"]
    fields = ("parameter", "region")
    estimate, prior = (_estimates(found, member, theta) for theta in (outcome.theta, found.prior[place]))
    loadings, prior_loadings = (
        np.asarray(found.setup.loadings(jnp.asarray(theta))) for theta in (outcome.theta, found.prior[place])
    )
    steps = max(outcome.n_steps, 1)
    data: Variables = {
        "fc_model": (
            ("region", "region_to"),
            found.fc[place],
            {"units": "1", "long_name": "FC of the pooled model, linear-noise"},
        ),
        "estimate": (fields, estimate, {"long_name": "estimate, in the unit of the parameter"}),
        "prior_estimate": (fields, prior, {"long_name": "the same of the fit to the other subjects"}),
        "common": (
            ("region", "input"),
            loadings,
            {"units": "1", "long_name": "loading on common inputs, relative to the own noise"},
        ),
        "common_prior": (
            ("region", "input"),
            prior_loadings,
            {"units": "1", "long_name": "the same of the fit to the other subjects"},
        ),
        "loss": (
            ("step",),
            outcome.history[:steps],
            {"units": "1", "long_name": "objective at each step"},
        ),
    }
    coords = {
        "parameter": ("parameter", np.array(names, dtype=str)),
        "unit": ("parameter", np.array([UNITS[name] for name in names], dtype=str)),
        "region": ("region", np.array(labels, dtype=str)),
        "region_to": ("region_to", np.array(labels, dtype=str)),
    }
    candidate = found.candidates[found.chosen]
    attrs = {
        "rank": candidate.rank,
        "lambda": candidate.strength,
        "maps": candidate.maps,
        "directions": candidate.directions,
        "own_weight": float(found.weights[place]),
        "fold": int(found.fold[place]),
        "final_loss": outcome.loss,
        "converged": int(outcome.converged),
        "n_evaluations": outcome.n_evaluations,
    }
    return xr.Dataset(data, coords=coords, attrs=attrs)


def cohort_dataset(
    found: Pooled, members: Sequence[Member], labels: Sequence[str], maps: Sequence[str] = ()
) -> xr.Dataset:
    """
    What was chosen, and what the cohort has in common.

    Parameters
    ----------
    found : Pooled
    members : sequence of Member
    labels : sequence of str
        Regions.
    maps : sequence of str
        Names of brain maps.

    Returns
    -------
    xarray.Dataset
        ``score(candidate, subject)`` with the hyper-parameters of each candidate as coordinates,
        ``precision(block)``, ``own_weight, fold(subject)``, ``group_estimate(fold, parameter, region)``;
        with maps ``map_coefficient, map_error(field, map)``.
    """
    own = found.setup.own
    folds = sorted(set(found.fold.tolist()))
    first = [int(np.flatnonzero(found.fold == f)[0]) for f in folds]
    estimates = np.stack([_estimates(found, members[k], found.groups[k].theta) for k in first])
    data: Variables = {
        "score": (
            ("candidate", "subject"),
            found.scores,
            {"units": "1", "long_name": "fc_r on the validation part"},
        ),
        "precision": (
            ("block",),
            np.array(list(found.block_precision.values())),
            {"units": "1", "long_name": "relative precision of the prior, 1 on average"},
        ),
        "own_weight": (
            ("subject",),
            found.weights,
            {"units": "1", "long_name": "weight of the own FC in the target"},
        ),
        "group_estimate": (
            ("fold", "parameter", "region"),
            estimates,
            {"long_name": "fit to the mean FC of the other folds, in the unit of the parameter"},
        ),
    }
    names = ["coupling", "homotopic", own.local, "noise", "gain_in", "gain_out"]
    coords = {
        "rank": ("candidate", [one.rank for one in found.candidates]),
        "strength": ("candidate", [one.strength for one in found.candidates]),
        "learned": ("candidate", [one.learned for one in found.candidates]),
        "maps": ("candidate", [one.maps for one in found.candidates]),
        "directions": ("candidate", [one.directions for one in found.candidates]),
        "shrunk": ("candidate", [one.shrunk for one in found.candidates]),
        "block": ("block", np.array(list(found.block_precision), dtype=str)),
        "subject": ("subject", np.array([m.subject for m in members], dtype=str)),
        "fold_of": ("subject", found.fold),
        "fold": ("fold", folds),
        "parameter": ("parameter", np.array(names, dtype=str)),
        "unit": ("parameter", np.array([UNITS[name] for name in names], dtype=str)),
        "region": ("region", np.array(labels, dtype=str)),
    }
    if found.map_coefficient is not None and found.map_error is not None:
        about = {"units": "1", "long_name": "log of the field per standard deviation of the map"}
        data["map_coefficient"] = (("field", "map"), found.map_coefficient, about)
        error = {"units": "1", "long_name": "jackknife standard error over the folds"}
        data["map_error"] = (("field", "map"), found.map_error, error)
        fields = [own.local if name == "local" else name for name in own.space.regional_names]
        coords |= {
            "field": ("field", np.array(fields, dtype=str)),
            "map": ("map", np.array(maps, dtype=str)),
        }
    return xr.Dataset(data, coords=coords, attrs={"chosen": found.chosen})


def _estimates(found: Pooled, member: Member, theta: np.ndarray) -> np.ndarray:
    """(parameter, region); global parameters are the same in all regions."""
    own = found.setup.own
    values = constrained(own, member.problem, jnp.asarray(theta[: own.space.size]))
    names = ("coupling", "homotopic", "local", "noise", "gain_in", "gain_out")
    return np.stack([np.broadcast_to(np.asarray(values[name]), own.space.n_regions) for name in names])
