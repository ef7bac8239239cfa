"""Uncertainty of each subject's fit: intervals, identified parameters, sloppy directions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_posterior(subject: str, inputs: dict[str, xr.Dataset], args: argparse.Namespace) -> xr.Dataset:
    """
    Make the posterior dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``connectome, signal, fit``.
    args : argparse.Namespace
        ``params`` with ``model, fit, identify, signal``.

    Returns
    -------
    xarray.Dataset
        See `brainloom.fit.posterior.posterior_dataset` and `brainloom.fit.spectral.posterior_spectral`.
    """
    if args.params["fit"].get("route") == "spectrum":
        from brainloom.fit.spectral import posterior_spectral as posterior_dataset
    else:
        from brainloom.fit.posterior import posterior_dataset

    return posterior_dataset(inputs["connectome"], inputs["signal"], inputs["fit"], args.params)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--connectome F.. --signal F.. --fit F.. --output F.. --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    args = parse("identify", lists=["connectome", "signal", "fit", "output"], argv=argv)
    return run_subjects(args, subject_posterior)


if __name__ == "__main__":
    sys.exit(main())
