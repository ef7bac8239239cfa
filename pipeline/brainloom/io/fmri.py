"""Regional BOLD from images: NIfTI with a label image, CIFTI dense series with a label file, CIFTI parcel series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.confounds import read_confounds
from brainloom.io.image_header import (
    BoldHeader,
    header_of,
    image_kind,
    load_image,
    read_values,
    repetition_time_of,
    sidecar_path,
)
from brainloom.io.label_image import (
    LabelImage,
    grayordinate_labels,
    label_regions,
    read_label_image,
    voxel_labels,
)
from brainloom.io.reading import match_labels, read_atlas
from brainloom.io.tables import read_json, who

# Share of a region's volume that must have a signal.
LEAST_COVERAGE = 0.5
_BLOCK_BYTES = 2.5e8


class RegionalSeries(NamedTuple):
    """Regional means of one BOLD image.

    Attributes
    ----------
    data : (time, region) float64, in the unit of the image, not cleaned.
    labels : (region,)
    repetition_time : s.
    kept : (time,) bool, False where scrubbed.
    confounds : (time, confound) float64.
    confound_names : (confound,)
    coverage : (region,) share of the region's volume (grayordinates) whose signal was averaged.
    dropped : number of voxels (grayordinates) of the regions without a signal or with values that are not numbers.
    notes : sentences about what was not as expected and still could be used.
    """

    data: np.ndarray
    labels: list[str]
    repetition_time: float
    kept: np.ndarray
    confounds: np.ndarray
    confound_names: list[str]
    coverage: np.ndarray
    dropped: int
    notes: list[str]


def read_bold_image(
    bold: str | Path,
    atlas: str | Path | None = None,
    labels: str | Path | Mapping[int, str] | None = None,
    *,
    confounds: str | Path | None = None,
    strategy: Mapping[str, Any] | None = None,
    scrub: Mapping[str, Any] | None = None,
    band: Sequence[float] | None = None,
    repetition_time: float | None = None,
    sidecar: float | None = None,
    min_coverage: float = LEAST_COVERAGE,
) -> RegionalSeries:
    """Mean BOLD of every region of an atlas, with the confounds and the frames to scrub of the same run.

    The means are not cleaned: see `brainloom.analysis.denoise.remove_confounds`, which needs to know the part of the run
    that is filtered.

    Parameters
    ----------
    bold : NIfTI image with four axes, CIFTI ``.dtseries.nii`` or ``.ptseries.nii``.
    atlas : for NIfTI a label image (put into the grid of the BOLD by nearest neighbour where the grids differ, with a
        note), for a dense series a ``.dlabel.nii``, for a parcel series None.
    labels : label table (``index, name``), or value to name in the order wanted. If not given: the names of the
        ``.dlabel.nii`` or parcel series; for a label image its values.
    confounds : table of fMRIPrep.
    strategy, scrub, band : see `brainloom.io.confounds.read_confounds`.
    repetition_time : s, where neither header nor sidecar has it; refused if they have another.
    sidecar : s, of the JSON files that apply; if not given, of the one beside the image.
    min_coverage : share of a region's volume that must have a signal.

    Returns
    -------
    RegionalSeries

    Raises
    ------
    DataError
        A file is missing or damaged, the repetition time is missing or contradictory, regions lie outside the field of
        view, or the label table does not fit.
    """
    image = load_image(bold)
    header = header_of(image, bold)
    if sidecar is None and sidecar_path(bold).is_file():
        value = read_json(sidecar_path(bold)).get("RepetitionTime")
        sidecar = float(value) if isinstance(value, int | float) else None
    seconds = repetition_time_of(bold, header, sidecar, repetition_time)
    about = read_confounds(confounds, strategy, scrub, frames=header.frames, band=band) if confounds else None
    table = table_of(labels) if isinstance(labels, str | Path) else labels
    if header.kind == "ptseries":
        data, names = _parcels(image, bold, table)
        coverage, dropped = np.ones(len(names)), 0
        notes: list[str] = []
    else:
        if atlas is None:
            raise _no_atlas(bold)
        found = _regions(image, header, bold, read_label_image(atlas), table, min_coverage)
        data, names, coverage, dropped, notes = found
    frames = np.ones(header.frames, dtype=bool) if about is None else about.kept
    values = np.zeros((header.frames, 0)) if about is None else about.values
    return RegionalSeries(
        data, names, seconds, frames, values, about.names if about else [], coverage, dropped, notes
    )


def table_of(path: str | Path) -> dict[int, str]:
    """Value in the image to name, of a label table, in its order.

    Raises
    ------
    DataError
        The table makes no sense, or its column ``index`` has no whole numbers above 0.
    """
    atlas = read_atlas(path)
    found = {}
    for index, name in zip(atlas.values, atlas.labels, strict=True):
        if not index.isdecimal() or int(index) == 0:
            raise DataError(
                f"{path}: index of {name} is {index!r}; it must be the value of the region in the atlas image, a whole "
                "number above 0"
            )
        found[int(index)] = name
    return found


def _parcels(image: Any, path: str | Path, table: Mapping[int, str] | None) -> tuple[np.ndarray, list[str]]:
    names = _parcel_names(image)
    data = read_values(image, ..., path).astype(np.float64)
    if table is None:
        return data, names
    order = match_labels(names, list(table.values()), path)
    return data[:, order], list(table.values())


def check_bold_image(path: str | Path, atlas: str | Path | None, table: str | Path) -> int:
    """Check an image against atlas and label table without reading its data; returns its number of frames.

    Parameters
    ----------
    path, atlas : see `read_bold_image`.
    table : label table of the atlas.

    Raises
    ------
    DataError
        The image has no time axis, lacks a region, or atlas and table do not fit.
    """
    image = load_image(path)
    header = header_of(image, path)
    if header.kind == "ptseries":
        match_labels(_parcel_names(image), read_atlas(table).labels, path)
    elif atlas is None:
        raise _no_atlas(path)
    else:
        label_image = read_label_image(atlas)
        regions, notes = label_regions(label_image, table_of(table))
        _place(image, header, path, label_image, regions, notes)
    return header.frames


def _no_atlas(path: str | Path) -> DataError:
    return DataError(f"{path}: {who(path)}image needs an atlas image; give one, or set input.atlas_image")


def _parcel_names(image: Any) -> list[str]:
    return [str(name) for name in image.header.get_axis(1).name]


def _place(
    image: Any,
    header: BoldHeader,
    path: str | Path,
    atlas: LabelImage,
    regions: Mapping[int, str],
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray, float]:
    """Voxels of the regions, those of one region side by side, the region of each, and their volume in atlas voxels."""
    if header.kind == "nifti":
        placed, share = voxel_labels(atlas, image.shape[:3], image.affine, path, notes)
    else:
        placed, share = grayordinate_labels(atlas, image.header.get_axis(1), path)
    number = np.array(list(regions))
    voxels = np.flatnonzero(np.isin(placed, number))
    of_voxel = np.argsort(number)[np.searchsorted(np.sort(number), placed[voxels])]
    order = np.argsort(of_voxel, kind="stable")
    _refuse_absent(np.bincount(of_voxel, minlength=len(number)), list(regions.values()), path, atlas)
    return voxels[order], of_voxel[order], share


def _regions(
    image: Any,
    header: BoldHeader,
    path: str | Path,
    atlas: LabelImage,
    table: Mapping[int, str] | None,
    min_coverage: float,
) -> tuple[np.ndarray, list[str], np.ndarray, int, list[str]]:
    regions, notes = label_regions(atlas, table)
    names = list(regions.values())
    voxels, of_voxel, share = _place(image, header, path, atlas, regions, notes)
    if header.kind == "nifti":
        x, y, z = np.unravel_index(voxels, image.shape[:3])

        def block(start: int, stop: int) -> np.ndarray:
            return read_values(image, (..., slice(start, stop)), path)[x, y, z].astype(np.float64)

        n_values = int(np.prod(image.shape[:3]))
    else:

        def block(start: int, stop: int) -> np.ndarray:
            return read_values(image, slice(start, stop), path)[:, voxels].T.astype(np.float64)

        n_values = image.shape[1]
    step = max(1, int(_BLOCK_BYTES / (8 * n_values)))
    data, used = _means(block, header.frames, step, of_voxel, len(names))
    _refuse_absent(used, names, path, atlas)
    # The share counts volume, because a region has another number of voxels in another grid.
    expected = np.array([np.count_nonzero(atlas.values == value) for value in regions])
    coverage = np.minimum(used * share / expected, 1.0)
    poor = coverage < min_coverage
    if poor.any():
        worst = int(np.argmin(coverage))
        more = f" ({poor.sum()} such regions)" if poor.sum() > 1 else ""
        raise DataError(
            f"{path}: {who(path)}region {names[worst]!r} has a signal in {coverage[worst]:.0%} of its volume{more}; at least "
            f"{min_coverage:.0%} is needed, so leave the region out of the atlas table or leave the subject out"
        )
    dropped = len(voxels) - int(used.sum())
    what = "voxels" if header.kind == "nifti" else "grayordinates"
    if dropped:
        notes.append(
            f"{dropped} of {len(voxels)} {what} of the regions have no signal and are left out of the means"
        )
    return data, names, coverage, dropped, notes


def _refuse_absent(counts: np.ndarray, names: Sequence[str], path: str | Path, atlas: LabelImage) -> None:
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise DataError(
            f"{path}: {who(path)}image has no signal in {len(absent)} of {len(names)} regions of {Path(atlas.path).name}: "
            f"{shown}; give an atlas in the space of the image, leave the regions out of the atlas table, or leave the "
            "subject out"
        )


def _means(
    block: Callable[[int, int], np.ndarray], frames: int, step: int, of_voxel: np.ndarray, n_regions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means (time, region) over voxels that vary and are numbers in all frames, and the number of voxels of each."""
    chosen = np.arange(len(of_voxel))
    while True:
        counts = np.bincount(of_voxel[chosen], minlength=n_regions)
        sums = np.zeros((frames, n_regions))
        low, high = np.full(len(chosen), np.inf), np.full(len(chosen), -np.inf)
        finite = np.ones(len(chosen), dtype=bool)
        present = np.flatnonzero(counts)
        edges = (np.cumsum(counts) - counts)[present]
        for start in range(0, frames, step):
            values = block(start, min(start + step, frames))[chosen]
            finite &= np.isfinite(values).all(axis=1)
            low, high = np.minimum(low, values.min(axis=1)), np.maximum(high, values.max(axis=1))
            with np.errstate(invalid="ignore"):  # infinities of both signs: those voxels go below
                sums[start : start + step, present] = np.add.reduceat(values, edges, axis=0).T
        if finite.all():
            break
        chosen = chosen[finite]
    still = low == high
    # Outside the field of view voxels keep one value: it is taken out of the sum rather than the image read again.
    sums -= np.bincount(of_voxel[chosen[still]], weights=low[still], minlength=n_regions)
    used = counts - np.bincount(of_voxel[chosen[still]], minlength=n_regions)
    return sums / np.maximum(used, 1), used


def read_pconn(path: str | Path, labels: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Read a CIFTI matrix between parcels, such as a connectome or functional connectivity.

    Parameters
    ----------
    path : ``.pconn.nii``
    labels : names in the order wanted; those of the file if not given.

    Returns
    -------
    matrix : (region, region_to) float64, as in the file.
    labels : list of str

    Raises
    ------
    DataError
        The file is missing or damaged, its two axes are not the same parcels, or they are not those of ``labels``.
    """
    image = load_image(path)
    is_pconn = image_kind(path) == "pconn" and hasattr(image.header, "get_axis")
    axes = [image.header.get_axis(at) for at in (0, 1)] if is_pconn else []
    names = [[str(name) for name in getattr(axis, "name", [])] for axis in axes]
    if not names or names[0] != names[1] or not names[0]:
        raise DataError(f"{path}: {who(path)}file is no matrix between the same parcels; give a .pconn.nii")
    matrix = read_values(image, ..., path).astype(np.float64)
    if labels is None:
        return matrix, names[0]
    order = match_labels(names[0], labels, path)
    return matrix[np.ix_(order, order)], list(labels)
