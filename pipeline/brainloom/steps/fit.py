"""Fit of each subject: global coupling and regional fields, by gradient, with its negative controls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainloom.core.codehash import code_hash
from brainloom.core.errors import DataError
from brainloom.steps._common import TOGETHER, parse, run_batch

if TYPE_CHECKING:
    import xarray as xr


def fits(
    subjects: Sequence[str], inputs: Sequence[dict[str, xr.Dataset]], args: argparse.Namespace
) -> list[xr.Dataset | DataError]:
    """
    Make the fit datasets of some subjects.

    Parameters
    ----------
    subjects : sequence of str
        Labels.
    inputs : sequence of dict of str to xarray.Dataset
        ``connectome, donor, signal`` of each.
    args : argparse.Namespace
        ``params`` with ``model, fit, controls, signal, seed``, and ``modality, eeg, meg`` with route spectrum;
        ``checkpoints`` (folder).

    Returns
    -------
    list of xarray.Dataset or DataError
        See `brainloom.cohort.fits.fit_subjects` and `brainloom.fit.spectral.fit_subject_spectral`.
    """
    from brainloom.store import is_failed

    config = args.params | {"code": code_hash("brainloom.steps.fit")}
    donors = [None if is_failed(given["donor"]) else given["donor"] for given in inputs]
    if args.params["fit"].get("route") != "spectrum":
        from brainloom.cohort.fits import Case, fit_subjects

        cases = [
            Case(subject, given["connectome"], given["signal"], donor)
            for subject, given, donor in zip(subjects, inputs, donors, strict=True)
        ]
        return fit_subjects(cases, config, args.checkpoints)
    from brainloom.fit.spectral import fit_subject_spectral

    made: list[xr.Dataset | DataError] = []
    for subject, given, donor in zip(subjects, inputs, donors, strict=True):
        try:
            found = fit_subject_spectral(
                subject, given["connectome"], given["signal"], donor, config, args.checkpoints
            )
        except DataError as err:
            made.append(err)
        else:
            made.append(found)
    return made


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
    # one program a subject with route spectrum, so there each subject is written as soon as it is done
    size = 1 if args.params["fit"].get("route") == "spectrum" else TOGETHER
    return run_batch(args, fits, size=size, tolerate=("donor",))


if __name__ == "__main__":
    sys.exit(main())
