"""Lead fields of a sphere, built on the spot for the centres of regions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.core.modalities import ELECTRIC
from brainloom.io.forward import sensor_positions
from brainloom.io.lead_field import LeadField, unit_vectors

# Fitted to the upper part of the inner skull and of the head of fsaverage (the MNI head that MNE ships), in head
# coordinates: with it, the cortex lies inside the innermost shell.
CENTRE = (0.0, 11.0, 42.0)
RADIUS = 95.0
# MNE's four shells: brain, fluid, skull, scalp.
SHELLS = (0.90, 0.92, 0.97, 1.0)
CONDUCTIVITIES = (0.33, 1.0, 0.004, 0.33)
# Sources are kept within this part of the innermost shell.
INSIDE = 0.98
MEG = ("neuromag", "ctf275", "ctf151")


def sphere_lead_field(
    positions: Any,
    orientations: Any = None,
    *,
    kind: str = "eeg",
    montage: Any = None,
    sensors: str | Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    space: str = "mni",
    reference: str | None = "average",
    centre: Sequence[float] = CENTRE,
    radius: float = RADIUS,
    shells: Sequence[float] = SHELLS,
    conductivities: Sequence[float] = CONDUCTIVITIES,
    max_pull: float = 15.0,
) -> LeadField:
    """
    EEG or MEG lead field of dipoles in a sphere, with MNE.

    Parameters
    ----------
    positions : (region, 3) array
        Centres of the regions, mm.
    orientations : (region, 3) array, "radial", "tangential" or "free", optional
        Directions of the dipoles, in the axes of `space`. Radial, outwards, by default for EEG: the mean over a
        patch of cortex that follows the skull. A sphere is silent for radial dipoles in MEG, so there the default
        is tangential: along the sphere towards its top (forwards at the very top). Take normals of the cortex, or
        ``"free"``, where the direction matters.
    kind : {"eeg", "meg"}
    montage : str, sequence of str, or mne.Info, optional
        EEG: a montage that MNE ships (``colin27_1020`` by default; an electrode with a second name is taken once),
        names of the 10-05 system, or the info of a recording with positions. MEG: ``neuromag`` (default),
        ``ctf275`` or ``ctf151``, whose helmet is put around the sphere, or the info of a recording.
    sensors : sequence of str, "mag" or "grad", optional
        Which of them, in this order; all by default, but bad channels of an info.
    regions : sequence of str, optional
    space : {"mni", "head"}
        Coordinates of `positions` and `orientations`. From MNI to the head by the transform of fsaverage.
    reference : str, optional
        Of EEG, see `LeadField.referenced`; None leaves potentials relative to infinity.
    centre, radius : mm, head coordinates
        The sphere; its default is fitted to the head of fsaverage. Electrodes are moved to its surface, along
        their direction from the centre: off the sphere the lead field would be wrong by tens of percent.
    shells, conductivities : sequences of float
        Outer radii relative to `radius`, and conductivities in S/m, from the inside; EEG only.
    max_pull : float
        Sources outside 98 % of the innermost shell are pulled to it along their direction from the centre, with a
        warning, by at most this many mm; farther ones are an error.

    Returns
    -------
    LeadField
        ``positions`` are those of the sources as used, in the head.

    Notes
    -----
    EEG: approximation of the shells by Berg and Scherg (1994, Electroenceph Clin Neurophysiol 90:58), as in MNE;
    within 1 % of the exact series. MEG: Sarvas (1987, Phys Med Biol 32:11).

    Raises
    ------
    DataError
        A region is too far outside, a sensor is unknown or has no position, or all MEG sources are radial.

    Examples
    --------
    >>> field = sphere_lead_field([[-40, -20, 50], [40, -20, 50]], montage=["C3", "Cz", "C4"])
    >>> field.gain.shape, field.reference, bool(field.gain[0, 0] > field.gain[2, 0])
    ((3, 2), 'average', True)
    """
    import mne

    if kind not in ELECTRIC:
        raise DataError(f"kind is {kind!r}; it must be 'eeg' or 'meg'")
    if space not in ("mni", "head"):
        raise DataError(f"space is {space!r}; it must be 'mni' or 'head'")
    where = np.array(positions, dtype=float)
    if where.ndim != 2 or where.shape[1] != 3 or not np.isfinite(where).all():
        raise DataError(
            f"positions have the shape {where.shape} or are not finite; they must be (region, 3) in mm"
        )
    names = (
        [f"region{at}" for at in range(len(where))] if regions is None else [str(name) for name in regions]
    )
    if len(names) != len(where):
        raise DataError(f"{len(names)} names are given for {len(where)} regions; give one each")
    middle = np.array(centre, dtype=float)
    where = mni_to_head(where) if space == "mni" else where
    where = _pulled_in(where, middle, INSIDE * shells[0] * radius, max_pull, names)
    directions = _directions(orientations, where - middle, names, kind, space)

    info = (
        _eeg_info(montage, sensors, middle, radius) if kind == "eeg" else _meg_info(montage, sensors, middle)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bem = mne.make_sphere_model(
            middle / 1e3,
            radius / 1e3,
            relative_radii=tuple(shells),
            sigmas=tuple(conductivities),
            verbose="ERROR",
        )
        normals = np.tile([0.0, 0.0, 1.0], (len(where), 1))
        source = mne.setup_volume_source_space(
            pos={"rr": np.ascontiguousarray(where / 1e3), "nn": normals}, mindist=0.0, verbose="ERROR"
        )
        forward = mne.make_forward_solution(
            info,
            trans=mne.transforms.Transform("head", "mri", np.eye(4)),
            src=source,
            bem=bem,
            meg=kind == "meg",
            eeg=kind == "eeg",
            mindist=0.0,
            verbose="ERROR",
        )
    used = forward["src"][0]["vertno"]
    lost = sorted(set(range(len(where))) - set(used.tolist()))
    if lost:  # MNE leaves out sources without a word
        raise DataError(
            f"region {names[lost[0]]} is outside the innermost shell of the sphere; move it inside"
        )
    gain = forward["sol"]["data"].reshape(len(forward["info"]["ch_names"]), -1, 3)
    # MNE keeps its own order of channels
    rows = [forward["info"]["ch_names"].index(name) for name in info["ch_names"]]
    kinds = [mne.channel_type(info, at) for at in range(len(rows))]
    field = LeadField(
        gain[rows],
        info["ch_names"],
        kinds,
        names,
        None,
        None,
        sensor_positions(info),
        where,
        np.ones(len(names), int),
    )
    if directions is not None:
        free = np.linalg.norm(field.gain, axis=(0, 2)).max()
        field = field.fixed(directions)
        if kind == "meg" and np.linalg.norm(field.gain, axis=0).max() < 1e-6 * free:
            raise DataError(
                "all orientations are radial, and MEG sensors measure nothing of radial dipoles in a sphere; "
                "give orientations='tangential' or 'free', or the normals of the cortex"
            )
    return field.referenced(reference) if kind == "eeg" else field


def mni_to_head(positions: np.ndarray, *, move: bool = True) -> np.ndarray:
    """MNI coordinates (mm) in the head of fsaverage; ``move=False`` for directions."""
    import mne

    path = os.path.join(os.path.dirname(mne.__file__), "data", "fsaverage", "fsaverage-trans.fif")
    trans = mne.transforms.invert_transform(mne.read_trans(path, verbose="ERROR"))
    scale = 1e3 if move else 1.0
    return scale * mne.transforms.apply_trans(trans, positions / scale, move=move)


def _pulled_in(
    where: np.ndarray, centre: np.ndarray, limit: float, max_pull: float, names: Sequence[str]
) -> np.ndarray:
    away = np.linalg.norm(where - centre, axis=1)
    pull = np.maximum(away - limit, 0.0)
    if (pull > max_pull).any():
        far = ", ".join(f"{names[at]} ({pull[at]:.0f} mm)" for at in np.flatnonzero(pull > max_pull)[:5])
        raise DataError(
            f"regions outside the innermost shell of the sphere: {far}; check that positions are in mm and in the "
            f"space given, enlarge the sphere (radius=), or raise max_pull ({max_pull:g} mm)"
        )
    outside = np.flatnonzero(pull > 0)
    if len(outside) == 0:
        return where
    warnings.warn(
        f"{len(outside)} of {len(where)} regions are outside the innermost shell of the sphere and are moved "
        f"inside by up to {pull.max():.1f} mm: {', '.join(names[at] for at in outside[:5])}"
        + (", ..." if len(outside) > 5 else ""),
        stacklevel=3,
    )
    inside = where.copy()
    inside[outside] = centre + (where - centre)[outside] * (limit / away[outside])[:, None]
    return inside


def _directions(
    given: Any, from_centre: np.ndarray, names: Sequence[str], kind: str, space: str
) -> np.ndarray | None:
    """Unit vectors in the head; None if free."""
    given = {"eeg": "radial", "meg": "tangential"}[kind] if given is None else given
    if not isinstance(given, str):
        directions = unit_vectors(given, names)
        return mni_to_head(directions, move=False) if space == "mni" else directions
    if given == "free":
        return None
    if given not in ("radial", "tangential"):
        raise DataError(
            f"orientations are {given!r}; they must be 'radial', 'tangential', 'free' or an array (region, 3)"
        )
    length = np.linalg.norm(from_centre, axis=1)
    if length.min() < 1e-3:
        raise DataError(
            f"region {names[int(length.argmin())]} is at the centre of the sphere, where nothing is {given}; "
            "give orientations"
        )
    radial = from_centre / length[:, None]
    if given == "radial":
        return radial
    up = np.array([0.0, 0.0, 1.0]) - radial[:, 2:] * radial
    forwards = np.array([0.0, 1.0, 0.0]) - radial[:, 1:2] * radial
    along = np.where(np.linalg.norm(up, axis=1, keepdims=True) > 1e-3, up, forwards)
    return unit_vectors(along, names)


# --- sensors ---------------------------------------------------------------------------------------------


def _eeg_info(montage: Any, sensors: Any, centre: np.ndarray, radius: float) -> Any:
    """Info of electrodes that are moved to the sphere."""
    import mne

    if hasattr(montage, "ch_names"):
        info = _of_recording(montage, ["eeg"], sensors)
    else:
        listed = montage is not None and not isinstance(montage, str)
        shipped = "colin27_1005" if listed else montage or "colin27_1020"
        try:
            known = mne.channels.make_standard_montage(shipped)
        except ValueError:
            raise DataError(
                f"montage is {montage!r}; it must be one that MNE ships, such as colin27_1020"
            ) from None
        chosen = sensors if sensors is not None else montage if listed else None
        # T7 is also called T3: one electrode
        first = {tuple(place): name for name, place in reversed(known.get_positions()["ch_pos"].items())}
        chosen = (
            [n for n in known.ch_names if n in first.values()] if chosen is None else [str(n) for n in chosen]
        )
        missing = [name for name in chosen if name not in known.ch_names]
        if missing:
            raise DataError(
                f"montage {shipped} has no electrode {', '.join(missing[:5])}; use its names, or give an mne.Info"
            )
        info = mne.create_info(chosen, 1000.0, "eeg", verbose="ERROR")
        info.set_montage(known, on_missing="ignore", verbose="ERROR")
    for channel in info["chs"]:
        away = channel["loc"][:3] - centre / 1e3
        length = np.linalg.norm(away)
        if not np.isfinite(length) or not channel["loc"][:3].any():
            raise DataError(
                f"electrode {channel['ch_name']} has no position; give a montage, or leave it out"
            )
        if not 0.04 < length < 0.2:
            raise DataError(
                f"electrode {channel['ch_name']} is {1e3 * length:.0f} mm from the centre of the head; "
                "positions must be in m in head coordinates"
            )
        channel["loc"][:3] = centre / 1e3 + away * (radius / 1e3 / length)
    return info


def _meg_info(montage: Any, sensors: Any, centre: np.ndarray) -> Any:
    """Info of MEG sensors around the sphere."""
    import mne
    from mne.channels.montage import read_meg_canonical_info

    if hasattr(montage, "ch_names"):
        info = _of_recording(montage, ["mag", "grad"], sensors)
        if info["dev_head_t"] is None:
            raise DataError("info has no dev_head_t; it must say where the head is in the helmet")
    else:
        montage = "neuromag" if montage is None else montage
        if montage not in MEG:
            raise DataError(f"montage is {montage!r}; for MEG it must be {', '.join(MEG)} or an mne.Info")
        whole = read_meg_canonical_info(montage)
        coils = np.array([channel["loc"][:3] for channel in whole["chs"]])
        upper = coils[coils[:, 2] > np.median(coils[:, 2])]
        # the shipped helmet is not around the head: its middle goes to that of the sphere
        shift = np.eye(4)
        shift[:3, 3] = centre / 1e3 - _centre_of(upper)
        with whole._unlock():
            whole["dev_head_t"] = mne.transforms.Transform("meg", "head", shift)
        info = _of_recording(whole, ["mag", "grad"], sensors)
    closest = np.linalg.norm(sensor_positions(info) - centre, axis=1).min()
    if closest < 80.0:
        raise DataError(
            f"a MEG sensor is {closest:.0f} mm from the centre of the head, inside it; correct dev_head_t of the info"
        )
    return info


def _of_recording(info: Any, kinds: Sequence[str], sensors: Any) -> Any:
    import mne

    names = info["ch_names"]
    has = {name: mne.channel_type(info, at) for at, name in enumerate(names)}
    if sensors is None:
        chosen = [name for name in names if has[name] in kinds and name not in info["bads"]]
    elif isinstance(sensors, str):
        chosen = [name for name in names if has[name] == sensors and sensors in kinds]
    else:
        chosen = [str(name) for name in sensors]
    odd = [name for name in chosen if has.get(name) not in kinds]
    if odd or not chosen:
        found = (
            f"no {kinds[0]} channel {', '.join(odd[:5])}" if odd else f"no channel of kind {sensors or kinds}"
        )
        raise DataError(f"info has {found}; choose from {', '.join(names[:5])}, ...")
    return mne.pick_info(info, [names.index(name) for name in chosen])


def _centre_of(points: np.ndarray) -> np.ndarray:
    """Centre of the sphere that fits best (least squares)."""
    table = np.column_stack([2.0 * points, np.ones(len(points))])
    return np.linalg.lstsq(table, (points**2).sum(1), rcond=None)[0][:3]
