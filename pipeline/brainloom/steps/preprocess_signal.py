"""Recording of each subject: read, checked, cut into training, validation and test parts, and their features."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainloom.core.errors import DataError
from brainloom.io.bold import RawBold, load_bold
from brainloom.io.bold_files import bold_options
from brainloom.io.layout import atlas_path, subject_files
from brainloom.io.meeg_files import meeg_files
from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def subject_signal(subject: str, args: argparse.Namespace) -> xr.Dataset:
    """
    Make the signal dataset of one subject, of all modalities.

    Parameters
    ----------
    subject : str
        Label.
    args : argparse.Namespace
        ``input`` (folder) and ``params`` (``input, signal, model``, and ``modality, eeg, meg`` where there is more
        than BOLD).

    Returns
    -------
    xarray.Dataset
        See `brainloom.analysis.signal_dataset.signal_dataset` and `brainloom.analysis.meeg_dataset`.

    Raises
    ------
    DataError
        The subject cannot be used.
    """
    modality = args.params.get("modality")
    if modality is None:
        return bold_signal(subject, args, _load(subject, args))
    import xarray as xr

    from brainloom.analysis.denoise_spectra import spectral_splits
    from brainloom.analysis.meeg_dataset import bold_cross_spectra, meeg_variables
    from brainloom.analysis.signal_dataset import stored_splits
    from brainloom.analysis.split_record import read_record
    from brainloom.io.meeg import load_meeg
    from brainloom.io.reading import read_atlas

    source, settings = args.params["input"], args.params["signal"]
    atlas = read_atlas(atlas_path(args.input, source["atlas"]))
    parts = []
    if "bold" in modality:
        raw = _load(subject, args)
        bold, shares = bold_signal(subject, args, raw), None
        splits, tr = stored_splits(bold), raw.repetition_time
        if raw.confounds and raw.confounds[0].names:
            pieces, _ = read_record(bold.attrs["split_frames"])
            splits, shares = spectral_splits(raw.runs, raw.confounds, tr, settings, pieces)
        band, width = settings["band"], settings.get("bandwidth")
        parts += [bold, bold_cross_spectra(splits, tr, band, width, atlas.labels, shares)]
    for name in modality:
        if name in args.params:
            own = args.params[name]
            recording = load_meeg(
                args.input, subject, source["task"], name, own, atlas=atlas, atlas_label=source["atlas"]
            )
            parts.append(meeg_variables(recording, own, signal=settings, regions=atlas.labels))
    attrs: dict[str, object] = {}
    for part in parts:
        attrs |= part.attrs
    return xr.merge(parts, combine_attrs="override", join="exact", compat="equals").assign_attrs(
        attrs | {"modality": ",".join(modality)}
    )


def _load(subject: str, args: argparse.Namespace) -> RawBold:
    """Runs and confounds of a subject without the first frames."""
    source, settings = args.params["input"], args.params["signal"]
    image = source.get("atlas_image")
    raw = load_bold(args.input, subject, source["atlas"], source["task"], signal=settings, atlas_image=image)
    drop = settings["drop_frames"]
    later = [one._replace(values=one.values[drop:], kept=one.kept[drop:]) for one in raw.confounds]
    return raw._replace(runs=[run[drop:] for run in raw.runs], confounds=later)


def bold_signal(subject: str, args: argparse.Namespace, raw: RawBold) -> xr.Dataset:
    """
    Make the part of BOLD.

    Parameters
    ----------
    subject : str
        Label.
    args : argparse.Namespace
        ``params`` (``signal, model.frequency_band``).
    raw : RawBold
        Without the first frames.

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
    from brainloom.analysis.splits import design_of

    settings, runs, tr = args.params["signal"], raw.runs, raw.repetition_time
    notes = [f"{note}." for note in raw.notes]
    try:
        kept = [one.kept for one in raw.confounds]
        # Gaps come before confounds are removed, because that is done piece by piece.
        scrubbed = denoise_runs(runs, tr, settings, kept=kept or None)
        design = design_of(scrubbed, tr, settings, names=raw.names, sessions=raw.sessions)
        if kept:
            gone = sum(int((~one).sum()) for one in kept)
            notes += [f"{gone} of {sum(map(len, kept))} frames were scrubbed."] if gone else []
            confounds = [one.values for one in raw.confounds]
            runs = denoise_runs(runs, tr, settings, confounds, kept, gaps=design.gaps)
        band = args.params.get("model", {}).get("frequency_band", settings["band"])
        ds = signal_dataset(runs, tr, raw.atlas.labels, settings, band, design=design)
    except ValueError as err:
        raise DataError(f"sub-{subject}: {err}") from err
    names = raw.confounds[0].names if raw.confounds else []
    for note in notes:
        print(f"preprocess_signal sub-{subject}: {note}", file=sys.stderr)
    return ds.assign_attrs(confounds=json.dumps(names), warnings=json.dumps(notes))


def _raw_inputs(subject: str, args: argparse.Namespace) -> list[Path]:
    source = args.params["input"]
    modality = args.params.get("modality", ["bold"])
    electric: list[Path] = []
    for name in modality:
        if name in args.params:
            electric += meeg_files(
                args.input, subject, source["task"], name, args.params[name], source["atlas"]
            )
    # A recording that is a folder is told by the names of its files alone.
    electric = [path for path in electric if path.is_file()]
    if "bold" not in modality:
        return [path for path in (atlas_path(args.input, source["atlas"]), *electric) if path.is_file()]
    files = subject_files(args.input, subject, source["atlas"], source["task"], **bold_options(args.params))
    image = [files["atlas_image"]] if files["atlas_image"] else []
    paths = [files["atlas"], *image, *files["bold"], *files["bold_json"], *files["confounds"]]
    # A missing file is named by the checks that follow.
    return [path for path in (*paths, *electric) if path.is_file()]


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
