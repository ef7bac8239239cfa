"""Fits of each subject along a grid of regularisation strengths, to parts of its recording and to its controls."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainloom.core.errors import DataError
from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr

    from brainloom.cohort.reliability import Part


def recorded_parts(signal: xr.Dataset) -> dict[str, Part]:
    """
    FC of the parts of a recording that fits are compared between; see `brainloom.cohort.reliability.PARTS`.

    Parameters
    ----------
    signal : xarray.Dataset

    Raises
    ------
    DataError
        Half of the training part is too short to be filtered, or a region is constant in a part.
    """
    import numpy as np

    from brainloom.analysis.features import fc_of_part
    from brainloom.analysis.signal_dataset import stored_splits
    from brainloom.analysis.splits import halves
    from brainloom.cohort.reliability import Part

    subject = signal.attrs["subject"]
    settings = json.loads(signal.attrs["signal_config"])

    def stored(split: str) -> Part:
        return Part(
            signal["fc"].sel(split=split).values.astype(np.float64),
            float(signal["effective_dof"].sel(split=split)),
        )

    try:
        pieces = halves(stored_splits(signal)["train"], settings["filter_order"])
    except ValueError as err:
        raise DataError(f"sub-{subject}: {err}; leave out the section reliability") from None
    found = {name: stored(name) for name in ("train", "test")}
    for name, segments in zip(("first", "second"), pieces, strict=True):
        found[name] = Part(*fc_of_part(segments, float(signal.attrs["repetition_time"]), settings))
    found["early"] = Part(signal["fc_early"].values.astype(np.float64), float(signal["effective_dof_early"]))
    for name, part in found.items():
        bad = int(np.sum(~np.isfinite(part.fc)))
        if bad:
            raise DataError(
                f"sub-{subject}: FC of the {name} part is not a number in {bad} places; "
                "leave the subject out, or use a longer recording"
            )
    return found


def model_for_interpretation(params: dict) -> dict:
    """
    Section ``fit`` with the fields that ``reliability.regional`` names instead of its own.

    Parameters
    ----------
    params : dict
        Sections ``fit, reliability``.
    """
    from brainloom.core.config_fc import public

    fields = params["reliability"]["regional"]
    if fields is None:
        return params["fit"]
    named = {public(name) for name in fields}
    given = {
        name: one
        for name, one in (params["fit"].get("parameters") or {}).items()
        if one["scope"] == "global" or public(name) in named
    }
    return params["fit"] | {"regional": sorted(named), "parameters": given}


def subject_reliability(subject: str, inputs: dict[str, xr.Dataset], args: argparse.Namespace) -> xr.Dataset:
    """
    Make the reliability dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``connectome, donor, signal``.
    args : argparse.Namespace
        ``params`` with ``model, fit, controls, reliability, signal, seed``.

    Returns
    -------
    xarray.Dataset
        ``theta(strength, part, coordinate)`` of the own connectome, ``fc_model, fc_model_test(strength, region,
        region_to)``, ``fc_r_test, fc_r_train(strength, predictor)``, ``fc_r_validation(strength)``.
    """
    import numpy as np
    import xarray as xr

    from brainloom.cohort.batch import Settings
    from brainloom.cohort.reliability import PARTS, regularisation_curve
    from brainloom.fit.controls import control_connectomes
    from brainloom.fit.predictors import donor_weights
    from brainloom.fit.subject import subject_problem, subject_setup
    from brainloom.store import is_failed

    connectome, signal, params = inputs["connectome"], inputs["signal"], args.params
    donor = None if is_failed(inputs["donor"]) else inputs["donor"]
    weights = connectome["weights"].values
    params = params | {"fit": model_for_interpretation(params)}
    setup = subject_setup(params, connectome)
    controls = control_connectomes(
        params["controls"],
        weights,
        connectome["lengths"].values,
        donor_weights(donor, connectome),
        params["seed"],
    )
    strengths = sorted(params["reliability"]["lambda"], reverse=True)
    found = regularisation_curve(
        setup,
        subject_problem(setup, params, connectome, signal),
        {"model": weights, **controls},
        recorded_parts(signal),
        signal["fc"].sel(split="validation").values.astype(np.float64),
        strengths,
        Settings(max_steps=params["fit"]["max_steps"]),
    )
    labels = [str(label) for label in signal["region"].values]
    score = {"units": "1"}
    data = {
        "theta": (
            ("strength", "part", "coordinate"),
            found.theta,
            {"units": "1", "long_name": "log deviation from the reference, own connectome"},
        ),
        "fc_model": (
            ("strength", "region", "region_to"),
            found.fc.astype(np.float32),
            {"units": "1", "long_name": "FC of the model fitted to the training part"},
        ),
        "fc_model_test": (
            ("strength", "region", "region_to"),
            found.fc_test.astype(np.float32),
            {"units": "1", "long_name": "FC of the model fitted to the held-out part"},
        ),
        "fc_r_test": (
            ("strength", "predictor"),
            found.test,
            score | {"long_name": "fc_r of the fit to the training part with the held-out part"},
        ),
        "fc_r_train": (
            ("strength", "predictor"),
            found.train,
            score | {"long_name": "fc_r of the fit to the training part with it"},
        ),
        "fc_r_validation": (
            ("strength",),
            found.validation,
            score | {"long_name": "fc_r of the fit to the early part with the validation part"},
        ),
    }
    field = np.concatenate(
        [[name] for name in setup.space.global_names]
        + [[name] * setup.space.n_regions for name in setup.space.regional_names]
    )
    coords = {
        "strength": (
            "strength",
            strengths,
            {"units": "1", "long_name": "weight of the squared log deviation"},
        ),
        "part": ("part", np.array(PARTS)),
        "predictor": ("predictor", np.array(["model", *controls], dtype=str)),
        "coordinate": ("coordinate", np.array(setup.space.labels(labels, local=setup.local), dtype=str)),
        "field": (
            "coordinate",
            np.array([setup.local if name == "local" else name for name in field], dtype=str),
        ),
        "region": ("region", np.array(labels, dtype=str)),
        "region_to": ("region_to", np.array(labels, dtype=str)),
    }
    return xr.Dataset(data, coords=coords)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--connectome F.. --donor F.. --signal F.. --output F.. --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    args = parse("reliability", lists=["connectome", "donor", "signal", "output"], argv=argv)
    return run_subjects(args, subject_reliability, tolerate=("donor",))


if __name__ == "__main__":
    sys.exit(main())
