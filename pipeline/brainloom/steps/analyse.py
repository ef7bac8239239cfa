"""Scores of each subject: model, simulation and controls against training and held-out data, beside the ceiling."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_metrics(subject: str, inputs: dict[str, xr.Dataset], args: argparse.Namespace) -> xr.Dataset:
    """
    Make the metrics dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``connectome, signal, fit``, and ``simulation`` where there is one.
    args : argparse.Namespace
        ``params`` with ``model.name``, ``analyse.fcd`` and, if there are rewired controls, ``analyse.controls.rewire``.

    Returns
    -------
    xarray.Dataset
        See `brainloom.analysis.subject_scores.score_subject`.
    """
    from brainloom.analysis.subject_scores import score_subject

    params = args.params
    return score_subject(
        subject,
        params["model"]["name"],
        fcd=params["analyse"]["fcd"],
        seed=params["seed"],
        rewire=params["analyse"].get("controls", {}).get("rewire", 0),
        **inputs,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--connectome F.. --signal F.. --fit F.. [--simulation F..] --output F.. --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    given = sys.argv[1:] if argv is None else argv
    simulated = ["simulation"] if "--simulation" in given else []
    lists = ["connectome", "signal", "fit", *simulated, "output"]
    return run_subjects(parse("analyse", lists=lists, argv=given), subject_metrics)


if __name__ == "__main__":
    sys.exit(main())
