"""Images of BOLD: opening them, what their headers say, and the repetition time."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.reading import LONGEST_REPETITION_TIME
from brainloom.io.tables import who

# A header keeps the repetition time in single precision, some programs to a millisecond.
HEADER_TOLERANCE = 1e-3
# What nibabel and its decompressors raise on files that are cut short or hold something else.
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error)


class BoldHeader(NamedTuple):
    """What the header of a BOLD image says.

    Attributes
    ----------
    kind : ``nifti``, ``dtseries`` or ``ptseries``.
    frames : number.
    repetition_time : s, or None if the header has none, or one without a unit.
    stated : the number in the header, whatever its unit, for messages.
    """

    kind: str
    frames: int
    repetition_time: float | None
    stated: str


def image_kind(path: str | Path) -> str:
    """``dtseries``, ``ptseries``, ``pconn``, ``dlabel`` or ``nifti``, from the end of the file name.

    Examples
    --------
    >>> image_kind("sub-01_task-rest_bold.nii.gz"), image_kind("x.dtseries.nii")
    ('nifti', 'dtseries')
    """
    parts = Path(path).name.split(".")
    if parts[-1] == "nii" and len(parts) > 2 and parts[-2] in ("dtseries", "ptseries", "pconn", "dlabel"):
        return parts[-2]
    if parts[-1] == "nii" or parts[-2:] == ["nii", "gz"]:
        return "nifti"
    raise DataError(
        f"{path}: {who(path)}file is no image that can be read; "
        "give .nii, .nii.gz, .dtseries.nii, .ptseries.nii, .pconn.nii or .dlabel.nii"
    )


def sidecar_path(path: str | Path) -> Path:
    """The JSON file beside an image or a table."""
    return Path(path).with_name(Path(path).name.split(".")[0] + ".json")


def load_image(path: str | Path) -> Any:
    """Open an image with nibabel; its data stay in the file.

    Raises
    ------
    DataError
        The file is missing or no image.
    """
    import nibabel as nib

    try:
        return nib.load(path, keep_file_open=True)
    except FileNotFoundError:
        raise DataError(f"{path}: {who(path)}file not found; add the file or leave the subject out") from None
    except (nib.filebasedimages.ImageFileError, *_UNREADABLE):
        raise _damaged(path) from None


def _damaged(path: str | Path) -> DataError:
    return DataError(
        f"{path}: {who(path)}file cannot be read as an image; it may be cut short, so copy it again"
    )


def read_bold_header(path: str | Path) -> BoldHeader:
    """Read the header of a BOLD image and nothing else.

    Raises
    ------
    DataError
        The file is missing or damaged, no BOLD image, or has no time axis.
    """
    return header_of(load_image(path), path)


def header_of(image: Any, path: str | Path) -> BoldHeader:
    """`read_bold_header` of an image that is open."""
    kind = image_kind(path)
    if kind == "nifti":
        if len(image.shape) != 4:
            size = " x ".join(map(str, image.shape))
            raise DataError(
                f"{path}: {who(path)}image is {size}; BOLD must have four axes, the last one time"
            )
        step, unit = float(image.header.get_zooms()[3]), image.header.get_xyzt_units()[1]
        seconds = step * {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(unit, 0.0)
        return BoldHeader(kind, image.shape[3], _plausible(seconds), f"{step:.6g} (unit {unit})")
    if kind not in ("dtseries", "ptseries"):
        raise DataError(
            f"{path}: {who(path)}file is a {kind}; BOLD must be .nii, .nii.gz, .dtseries.nii or .ptseries.nii"
        )
    if not hasattr(image.header, "get_axis"):
        raise DataError(f"{path}: {who(path)}file is a NIfTI without a CIFTI header; give a {kind}")
    axis = image.header.get_axis(0)
    if not hasattr(axis, "step"):
        raise DataError(
            f"{path}: {who(path)}first axis is a {type(axis).__name__}; a {kind} must have a series axis"
        )
    seconds = float(axis.step) if axis.unit == "SECOND" else 0.0
    return BoldHeader(kind, len(axis), _plausible(seconds), f"{axis.step:.6g} (unit {axis.unit.lower()})")


def _plausible(seconds: float) -> float | None:
    # Six digits undo the rounding of single precision.
    return float(f"{seconds:.6g}") if 0 < seconds <= LONGEST_REPETITION_TIME else None


def repetition_time_of(
    path: str | Path, header: BoldHeader, sidecar: float | None = None, given: float | None = None
) -> float:
    """Repetition time of an image, in s: that of the sidecar, else of the header, else the one given.

    Parameters
    ----------
    path : the image, for messages.
    header : of the image.
    sidecar : s, ``RepetitionTime`` of the JSON files that apply; None if they have none.
    given : s, from the user.

    Raises
    ------
    DataError
        There is none, or two of them differ.
    """
    known = {"the JSON sidecar": sidecar, "the header": header.repetition_time, "signal.tr": given}
    found = {name: value for name, value in known.items() if value is not None}
    if not found:
        raise DataError(
            f"{path}: {who(path)}repetition time is missing: the header has {header.stated} and no JSON sidecar has "
            "RepetitionTime; add it to the sidecar in seconds, or set signal.tr in the configuration"
        )
    (first, value), *others = found.items()
    for name, other in others:
        if abs(other - value) > HEADER_TOLERANCE:
            raise DataError(
                f"{path}: {who(path)}repetition time is {value:.6g} s in {first} but {other:.6g} s in {name}; "
                "correct the one that is wrong"
            )
    return value


def read_values(image: Any, where: Any, path: str | Path) -> np.ndarray:
    """Part of the data of an open image, scaled as its header says.

    Raises
    ------
    DataError
        The file is cut short or damaged.
    """
    try:
        return np.asarray(image.dataobj[where])
    except _UNREADABLE:
        raise _damaged(path) from None
