"""Fit of each subject: global coupling and regional fields, by gradient, with its negative controls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainloom.core.codehash import code_hash
from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_fit(subject: str, inputs: dict[str, xr.Dataset], args: argparse.Namespace) -> xr.Dataset:
    """
    Make the fit dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``connectome, donor, signal``.
    args : argparse.Namespace
        ``params`` with ``model, fit, controls, signal, seed``, and ``modality, eeg, meg`` with route spectrum;
        ``checkpoints`` (folder).

    Returns
    -------
    xarray.Dataset
        See `brainloom.fit.subject.fit_subject` and `brainloom.fit.spectral.fit_subject_spectral`.
    """
    from brainloom.store import is_failed

    if args.params["fit"].get("route") == "spectrum":
        from brainloom.fit.spectral import fit_subject_spectral as fit_subject
    else:
        from brainloom.fit.subject import fit_subject

    donor = None if is_failed(inputs["donor"]) else inputs["donor"]
    config = args.params | {"code": code_hash("brainloom.steps.fit")}
    return fit_subject(subject, inputs["connectome"], inputs["signal"], donor, config, args.checkpoints)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--connectome F.. --donor F.. --signal F.. --output F.. --checkpoints DIR --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    lists = ["connectome", "donor", "signal", "output"]
    args = parse("fit", lists=lists, optional=["checkpoints"], argv=argv)
    return run_subjects(args, subject_fit, tolerate=("donor",))


if __name__ == "__main__":
    sys.exit(main())
