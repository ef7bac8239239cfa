"""Simulations of each subject at its fitted parameters, with fresh noise."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainloom.steps._common import guarded, parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_simulation(subject: str, inputs: dict[str, xr.Dataset], args: argparse.Namespace) -> xr.Dataset:
    """
    Make the simulation dataset of one subject, and its copies for other programs if they are asked for.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``connectome, signal, fit``.
    args : argparse.Namespace
        ``params`` with ``model, simulate, signal, seed``, and ``modality, eeg, meg`` with route spectrum;
        ``folders``, the folder of the export of each subject.

    Returns
    -------
    xarray.Dataset
        See `brainloom.fit.realise.simulate_subject` and
        `brainloom.fit.realise_spectral.simulate_subject_spectral`.
    """
    if "modality" in args.params:
        from brainloom.fit.realise_spectral import simulate_subject_spectral as simulate_subject
    else:
        from brainloom.fit.realise import simulate_subject

    found = simulate_subject(subject, inputs["connectome"], inputs["signal"], inputs["fit"], args.params)
    formats = args.params["simulate"].get("export", [])
    if formats:
        from brainloom.io.simulation_export import export_simulation

        atlas = args.params["input"]["atlas"]
        export_simulation(args.folders[subject], subject, found, inputs["signal"], formats, atlas=atlas)
    return found


def export_folders(args: argparse.Namespace) -> dict[str, Path]:
    """Where the signals of each subject go: ``export`` beside its dataset. Made here, as a failed subject leaves it empty."""
    from brainloom.store import read_attrs

    if not args.params["simulate"].get("export"):
        return {}
    labels = [str(read_attrs(path).get("subject", "")) for path in args.connectome]
    found = {label: output.parent / "export" for label, output in zip(labels, args.output, strict=True)}
    for folder in found.values():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return found


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
    args = parse("simulate", lists=["connectome", "signal", "fit", "output"], argv=argv)

    def make_folders() -> None:
        args.folders = export_folders(args)

    return guarded(make_folders) or run_subjects(args, subject_simulation)


if __name__ == "__main__":
    sys.exit(main())
