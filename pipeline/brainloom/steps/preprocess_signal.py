"""Recording of each subject: read, checked, cut into training, validation and test parts, and their features."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainloom.core.errors import DataError
from brainloom.io.bold import load_bold
from brainloom.io.bold_files import bold_options
from brainloom.io.layout import subject_files
from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_signal(subject: str, args: argparse.Namespace) -> xr.Dataset:
    """
    Make the signal dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    args : argparse.Namespace
        ``input`` (folder) and ``params`` (``input.atlas, input.task, input.atlas_image, signal,
        model.frequency_band``).

    Returns
    -------
    xarray.Dataset
        See `brainloom.analysis.signal_dataset.signal_dataset`.

    Raises
    ------
    DataError
        The subject cannot be used.
    """
    from brainloom.analysis.denoise import denoise_runs
    from brainloom.analysis.signal_dataset import signal_dataset

    source, settings = args.params["input"], args.params["signal"]
    image = source.get("atlas_image")
    raw = load_bold(args.input, subject, source["atlas"], source["task"], signal=settings, atlas_image=image)
    drop = settings["drop_frames"]
    runs = [run[drop:] for run in raw.runs]
    for note in raw.notes:
        print(f"preprocess_signal sub-{subject}: {note}", file=sys.stderr)
    try:
        if raw.confounds:
            confounds = [one.values[drop:] for one in raw.confounds]
            kept = [one.kept[drop:] for one in raw.confounds]
            runs = denoise_runs(runs, raw.repetition_time, settings, confounds, kept)
        ds = signal_dataset(
            runs, raw.repetition_time, raw.atlas.labels, settings, args.params["model"]["frequency_band"]
        )
    except ValueError as err:
        raise DataError(f"sub-{subject}: {err}") from err
    names = raw.confounds[0].names if raw.confounds else []
    return ds.assign_attrs(confounds=json.dumps(names), notes=json.dumps(raw.notes))


def _raw_inputs(subject: str, args: argparse.Namespace) -> list[Path]:
    source = args.params["input"]
    files = subject_files(args.input, subject, source["atlas"], source["task"], **bold_options(args.params))
    image = [files["atlas_image"]] if files["atlas_image"] else []
    paths = [files["atlas"], *image, *files["bold"], *files["bold_json"], *files["confounds"]]
    # A missing file is named by the checks that follow.
    return [path for path in paths if path.is_file()]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--input DIR --subject L.. --output F.. --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    args = parse("preprocess_signal", lists=["subject", "output"], singles=["input"], argv=argv)
    return run_subjects(args, lambda subject, _, args: subject_signal(subject, args), raw_inputs=_raw_inputs)


if __name__ == "__main__":
    sys.exit(main())
