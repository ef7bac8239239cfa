"""Atlas images: which voxel or grayordinate belongs to which region."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError

# Grids whose affines differ by less than this, in mm, are the same one.
_GRID_TOLERANCE = 1e-3


class LabelImage(NamedTuple):
    """An atlas image.

    Attributes
    ----------
    path : file, for messages.
    values : int array, (x, y, z) or (grayordinate,); 0 is background.
    affine : (4, 4) in mm, or None for CIFTI.
    axis : `nibabel.cifti2.BrainModelAxis`, or None for NIfTI.
    names : value to name for CIFTI, else None.
    """

    path: str
    values: np.ndarray
    affine: np.ndarray | None
    axis: Any
    names: dict[int, str] | None


def read_label_image(path: str | Path) -> LabelImage:
    """Read a label NIfTI or the first map of a ``.dlabel.nii``.

    Raises
    ------
    DataError
        The file is missing or damaged, has another number of axes, or values that are not whole numbers.
    """
    try:
        stat = Path(path).stat()
    except OSError:
        raise DataError(
            f"{path}: atlas image not found; correct input.atlas_image in the configuration"
        ) from None
    return _label_image(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)  # every subject of a batch asks for it
def _label_image(path: str, _changed: int, _size: int) -> LabelImage:
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError):
        raise DataError(
            f"{path}: atlas image cannot be read; it may be cut short, so copy it again"
        ) from None
    names, axis, affine = None, None, None
    if isinstance(image, nib.Cifti2Image):
        label, axis = image.header.get_axis(0), image.header.get_axis(1)
        if not isinstance(label, nib.cifti2.LabelAxis) or not isinstance(axis, nib.cifti2.BrainModelAxis):
            raise DataError(f"{path}: atlas image holds no labels of grayordinates; give a .dlabel.nii")
        names = {int(key): str(name) for key, (name, _) in label.label[0].items() if key > 0}
        values = values[0]
    else:
        values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
        affine = image.affine
        if values.ndim != 3:
            size = " x ".join(map(str, values.shape))
            raise DataError(f"{path}: atlas image is {size}; it must have three axes and one value a region")
    whole = np.rint(values)
    if not np.array_equal(whole, values):
        first = values[whole != values].ravel()[0]
        raise DataError(
            f"{path}: atlas image has the value {first:.6g}; every value must be a whole number, the index of a region"
        )
    return LabelImage(path, whole.astype(np.int64), affine, axis, names)


def label_regions(image: LabelImage, table: Mapping[int, str] | None) -> tuple[dict[int, str], list[str]]:
    """Value to name of the regions of an atlas image, in the order of the table, and notes.

    Parameters
    ----------
    image : LabelImage
    table : value to name; None takes all that the image has.

    Raises
    ------
    DataError
        A region of the table is not in the image, or has the name of another value there.
    """
    present = [int(value) for value in np.unique(image.values) if value > 0]
    if not present:
        raise DataError(f"{image.path}: atlas image has no value above 0; give a label image")
    if table is None:
        own = image.names or {}
        return {value: own.get(value, str(value)) for value in present}, []
    absent = [f"{name} ({value})" for value, name in table.items() if value not in set(present)]
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise DataError(
            f"{image.path}: atlas image has no voxels of {len(absent)} of {len(table)} regions of the atlas table: {shown}; "
            "column index of the table must be the value in the image"
        )
    if image.names:
        number = {name: value for value, name in image.names.items()}
        for value, name in table.items():
            if number.get(name, value) != value:
                raise DataError(
                    f"{image.path}: region {name} is {number[name]} in the atlas image but {value} in the atlas table; "
                    "correct column index of the table"
                )
    extra = [str(value) for value in present if value not in table]
    notes = []
    if extra:
        shown = ", ".join(extra[:5]) + (", ..." if len(extra) > 5 else "")
        notes.append(
            f"{len(extra)} values of the atlas image are not in the atlas table and are left out: {shown}"
        )
    return dict(table), notes


def voxel_labels(
    atlas: LabelImage, shape: tuple[int, ...], affine: np.ndarray, path: str | Path, notes: list[str]
) -> tuple[np.ndarray, float]:
    """Labels in the grid of a BOLD image, flat, and the volume of its voxels in voxels of the atlas.

    Parameters
    ----------
    atlas : LabelImage
    shape, affine : of the BOLD image.
    path : of the BOLD image, for messages.
    notes : a sentence is added if the grids differ.

    Raises
    ------
    DataError
        The atlas is of grayordinates.
    """
    if atlas.affine is None:
        raise DataError(
            f"{path}: image is a NIfTI but {Path(atlas.path).name} is a CIFTI atlas; give a NIfTI atlas or a .dtseries.nii"
        )
    if atlas.values.shape == tuple(shape) and np.allclose(atlas.affine, affine, rtol=0, atol=_GRID_TOLERANCE):
        return atlas.values.ravel(), 1.0
    import nibabel as nib
    from nibabel.processing import resample_from_to

    labels = nib.Nifti1Image(atlas.values.astype(np.int32), atlas.affine)
    moved = resample_from_to(labels, (tuple(shape), affine), order=0, mode="constant", cval=0)
    share = abs(np.linalg.det(affine[:3, :3]) / np.linalg.det(atlas.affine[:3, :3]))
    was, now = (" x ".join(map(str, size)) for size in (atlas.values.shape, shape))
    notes.append(
        f"{Path(atlas.path).name} ({was}) is in another grid than {Path(path).name} ({now}) and was put into it by nearest "
        "neighbour"
    )
    return np.asarray(moved.dataobj).astype(np.int64).ravel(), float(share)


def grayordinate_labels(atlas: LabelImage, axis: Any, path: str | Path) -> tuple[np.ndarray, float]:
    """Label of every grayordinate of a dense series, matched by structure and vertex or voxel; and 1.

    Parameters
    ----------
    atlas : LabelImage
    axis : `nibabel.cifti2.BrainModelAxis` of the series.
    path : of the series, for messages.

    Raises
    ------
    DataError
        The atlas is a NIfTI, or its surfaces or voxels are of another resolution.
    """
    if atlas.axis is None:
        raise DataError(
            f"{path}: image is a CIFTI series but {Path(atlas.path).name} is a NIfTI atlas; give a .dlabel.nii or a NIfTI "
            "image"
        )
    if axis == atlas.axis:
        return atlas.values, 1.0
    known = {name: (part, atlas.values[where]) for name, where, part in atlas.axis.iter_structures()}
    found = np.zeros(len(axis), dtype=np.int64)
    for name, where, part in axis.iter_structures():
        if name not in known:
            continue
        other, values = known[name]
        if part.surface_mask.all() and other.surface_mask.all():
            sizes = part.nvertices[name], other.nvertices[name]
            if sizes[0] != sizes[1]:
                raise DataError(
                    f"{path}: surface {name} has {sizes[0]} vertices but {sizes[1]} in {Path(atlas.path).name}; "
                    "give an atlas of the same mesh"
                )
            place, own = other.vertex, part.vertex
            lookup = np.zeros(sizes[0], dtype=np.int64)
        else:
            same = part.volume_shape == other.volume_shape
            if not same or not np.allclose(part.affine, other.affine, rtol=0, atol=_GRID_TOLERANCE):
                raise DataError(
                    f"{path}: voxels of {name} are of another grid than in {Path(atlas.path).name}; give an atlas of this grid"
                )
            place, own = (np.ravel_multi_index(model.voxel.T, part.volume_shape) for model in (other, part))
            lookup = np.zeros(int(np.prod(part.volume_shape)), dtype=np.int64)
        lookup[place] = values
        found[where] = lookup[own]
    return found, 1.0
