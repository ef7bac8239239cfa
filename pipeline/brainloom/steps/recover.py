"""Recovery of each subject's parameters: recordings simulated at its fit with its own design, and fitted again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainloom.core.codehash import code_hash
from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_recovery(subject: str, inputs: dict[str, xr.Dataset], args: argparse.Namespace) -> xr.Dataset:
    """
    Make the recovery dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``connectome, signal, fit``.
    args : argparse.Namespace
        ``params`` with ``model, fit, identify, simulate, signal, recovery, seed``; ``checkpoints`` (folder).

    Returns
    -------
    xarray.Dataset
        See `brainloom.cohort.recovery.recover_subject`.
    """
    from brainloom.cohort.recovery import recover_subject

    config = args.params | {"code": code_hash("brainloom.steps.recover")}
    return recover_subject(
        subject, inputs["connectome"], inputs["signal"], inputs["fit"], config, args.checkpoints
    )


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--connectome F.. --signal F.. --fit F.. --output F.. [--checkpoints DIR] --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    lists = ["connectome", "signal", "fit", "output"]
    args = parse("recover", lists=lists, optional=["checkpoints"], argv=argv)
    return run_subjects(args, subject_recovery)


if __name__ == "__main__":
    sys.exit(main())
