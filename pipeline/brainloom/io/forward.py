"""Forward models of MNE, aggregated to a parcellation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.lead_field import LeadField

HOW = ("mean", "sign-flip mean", "svd")
# How far the nearest source may be from the centre of a region, mm.
FARTHEST = 20.0


def lead_field_from_forward(
    forward: Any,
    parcels: Any,
    *,
    regions: Sequence[str] | None = None,
    how: str = "mean",
    orientation: str | None = None,
    radius: float | None = None,
    space: str = "mri",
    reference: str | None = None,
) -> LeadField:
    """
    Aggregate a forward model to a parcellation.

    Parameters
    ----------
    forward : mne.Forward or path of a FIF file
        Surface, volume or discrete sources, with free or fixed orientation.
    parcels : list or dict of int arrays, list of mne.Label, or (region, 3) array
        Sources of each region by their number among the sources in use (all source spaces one after the other);
        labels of a surface; or the centres of the regions in mm.
    regions : sequence of str, optional
        Names; those of the labels or keys, else ``region0``, ``region1``, ...
    how : {"mean", "sign-flip mean", "svd"}
        ``mean``: every source of a region carries the same part of its moment. With the normals of a folded
        surface, opposite walls cancel, as their fields do. ``sign-flip mean``: sources whose normal points away
        from the main direction of the region count negatively, as in `mne.label_sign_flip`. ``svd``: the first
        left singular vector of the fields of its sources, times its singular value over the square root of their
        number, with the sign of the sign-flip mean: the pattern that explains them best, equal to the mean
        where all are equal. The last two need fixed orientation.
    orientation : {"fixed", "free"}, optional
        Dipoles along the normals of the source space, or any direction. By default fixed for surfaces and fixed
        forward models, free for volumes and discrete sources.
    radius : float, optional
        With centres: all sources within this distance, mm. The nearest one if not given, at most 20 mm away.
    space : {"mri", "mni", "head"}
        Coordinates of centres. ``mri`` is the surface RAS of the subject of the forward model; ``mni`` is the same
        and allowed for ``fsaverage`` only, since a forward model knows no way from MNI to its subject.
    reference : str, optional
        See `LeadField.referenced`; MNE computes potentials relative to infinity.

    Raises
    ------
    DataError
        A region has no source, or anything else does not fit.
    """
    import mne

    if how not in HOW:
        raise DataError(f"how is {how!r}; it must be one of {', '.join(HOW)}")
    if isinstance(forward, (str, os.PathLike)):
        if not Path(forward).is_file():
            raise DataError(f"{forward}: file not found; give the path of a forward solution (-fwd.fif)")
        try:
            forward = mne.read_forward_solution(forward, verbose="ERROR")
        except (ValueError, OSError) as error:
            raise DataError(
                f"{forward}: file holds no forward solution ({error}); make one with MNE"
            ) from None
    gain, normals = _gain_of(forward, orientation)
    if gain.ndim == 3 and how != "mean":
        raise DataError(
            f"how is {how!r}, which needs fixed orientation; ask for orientation='fixed', or for "
            "how='mean' and LeadField.fixed afterwards"
        )
    sources = forward["source_rr"]
    members, names = _members(forward, parcels, radius, space)
    if regions is not None:
        names = [str(name) for name in regions]
    if len(names) != len(members):
        raise DataError(f"{len(names)} names are given for {len(members)} regions; give one each")
    columns, directions = [], []
    for name, which in zip(names, members, strict=True):
        if len(which) == 0:
            raise DataError(
                f"region {name} has no source in the forward model; use a finer source space, or leave the region out"
            )
        if which.min() < 0 or which.max() >= len(sources):
            raise DataError(
                f"region {name} has the source {which.max()}, but the forward model has {len(sources)} sources in use; "
                "count the sources in use, from 0"
            )
        column, direction = _aggregate(gain[:, which], None if normals is None else normals[which], how)
        columns.append(column)
        directions.append(direction)
    info = forward["info"]
    kinds = [mne.channel_type(info, at) for at in range(len(info["ch_names"]))]
    field = LeadField(
        np.stack(columns, axis=1),
        info["ch_names"],
        kinds,
        names,
        None if normals is None or np.isnan(directions).any() else np.stack(directions),
        None,
        sensor_positions(info),
        np.stack([1e3 * sources[which].mean(0) for which in members]),
        np.array([len(which) for which in members]),
    )
    return field.referenced(reference)


def _gain_of(forward: Any, orientation: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Gain (sensor, source[, axis]) in axes of the head, and normals if the orientation is fixed."""
    import mne

    fixed = mne.forward.is_fixed_orient(forward)
    surface = all(space["type"] == "surf" for space in forward["src"])
    if orientation not in (None, "fixed", "free"):
        raise DataError(f"orientation is {orientation!r}; it must be 'fixed' or 'free'")
    if orientation is None:
        orientation = "fixed" if fixed or surface else "free"
    if fixed and orientation == "fixed":
        return forward["sol"]["data"], forward["source_nn"]
    try:
        free = mne.convert_forward_solution(forward, surf_ori=False, force_fixed=False, verbose="ERROR")
    except ValueError as error:
        raise DataError(
            f"forward model has fixed orientations and cannot be freed ({error}); compute it anew"
        ) from None
    gain = free["sol"]["data"].reshape(len(free["info"]["ch_names"]), -1, 3)
    if orientation == "free":
        return gain, None
    if any(space["type"] == "vol" for space in forward["src"]):
        raise DataError("sources of a volume have no orientation; ask for orientation='free'")
    if surface:
        # averages the normals over the patch of each source where patches are known
        free = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True, verbose="ERROR")
        normals = free["source_nn"]
    else:
        normals = np.concatenate([space["nn"][space["vertno"]] for space in forward["src"]])
    return np.einsum("csk,sk->cs", gain, normals), normals


def _members(
    forward: Any, parcels: Any, radius: float | None, space: str
) -> tuple[list[np.ndarray], list[str]]:
    """Sources of each region, and names."""
    if isinstance(parcels, Mapping):
        return [_numbers(which, name) for name, which in parcels.items()], [str(name) for name in parcels]
    if isinstance(parcels, np.ndarray) and parcels.ndim == 2 and parcels.shape[1] == 3:
        parcels = parcels.astype(float)
        found = _around(forward, parcels, radius, space)
    elif all(hasattr(one, "vertices") and hasattr(one, "hemi") for one in parcels):
        return [_of_label(forward, label) for label in parcels], [label.name for label in parcels]
    else:
        found = [_numbers(which, f"region{at}") for at, which in enumerate(parcels)]
    return found, [f"region{at}" for at in range(len(found))]


def _numbers(which: Any, name: Any) -> np.ndarray:
    which = np.asarray(which)
    if which.size and which.dtype.kind not in "iu":
        raise DataError(f"sources of region {name} are of type {which.dtype}; give their numbers as integers")
    return which.astype(int).ravel()


def _of_label(forward: Any, label: Any) -> np.ndarray:
    spaces = forward["src"]
    if len(spaces) != 2 or any(space["type"] != "surf" for space in spaces):
        raise DataError(
            "labels need a forward model on the surfaces of both hemispheres; give numbers of sources, or centres"
        )
    if label.hemi not in ("lh", "rh"):
        raise DataError(
            f"label {label.name} has the hemisphere {label.hemi!r}; give one label for each hemisphere"
        )
    side = int(label.hemi == "rh")
    inside = np.isin(spaces[side]["vertno"], label.vertices)
    return np.flatnonzero(inside) + side * spaces[0]["nuse"]


def _around(forward: Any, centres: np.ndarray, radius: float | None, space: str) -> list[np.ndarray]:
    import mne

    if space not in ("mri", "mni", "head"):
        raise DataError(f"space is {space!r}; it must be mri, mni or head")
    subject = forward["src"][0].get("subject_his_id")
    if space == "mni" and subject != "fsaverage":
        raise DataError(
            f"centres are in MNI space, but the forward model is of the subject {subject!r}; give them in the "
            "surface RAS of its MRI (space='mri') or in the head (space='head')"
        )
    if space != "head":
        centres = mne.transforms.apply_trans(forward["mri_head_t"], centres / 1e3) * 1e3
    away = np.linalg.norm(centres[:, None] - 1e3 * forward["source_rr"][None], axis=-1)
    if radius is not None:
        return [np.flatnonzero(row <= radius) for row in away]
    return [np.array([row.argmin()]) if row.min() <= FARTHEST else np.array([], int) for row in away]


def _aggregate(gain: np.ndarray, normals: np.ndarray | None, how: str) -> tuple[np.ndarray, Any]:
    """Field of a region, and its mean direction (NaN if there is none)."""
    if normals is None:
        return gain.mean(1), np.nan
    flip = np.ones(len(normals))
    if how != "mean":
        main = np.linalg.svd(normals, full_matrices=False)[2][0]
        flip = np.where(normals @ main < 0, -1.0, 1.0)
        # the main direction has no sign of its own: most sources keep theirs
        flip = flip if flip.sum() >= 0 else -flip
    direction = (flip[:, None] * normals).mean(0)
    length = np.linalg.norm(direction)
    direction = direction / length if length > 1e-6 else np.full(3, np.nan)
    field = (gain * flip).mean(1)
    if how == "svd":
        pattern, values, _ = np.linalg.svd(gain, full_matrices=False)
        first = pattern[:, 0] * values[0] / np.sqrt(len(flip))
        field = first if first @ field >= 0 else -first
    return field, direction


def sensor_positions(info: Any) -> np.ndarray:
    """Positions of the channels of an `mne.Info` in the head, mm."""
    import mne

    where = np.array([channel["loc"][:3] for channel in info["chs"]])
    magnetic = [at for at in range(len(where)) if mne.channel_type(info, at) in ("mag", "grad")]
    if magnetic and info["dev_head_t"] is not None:
        where[magnetic] = mne.transforms.apply_trans(info["dev_head_t"], where[magnetic])
    return 1e3 * where
