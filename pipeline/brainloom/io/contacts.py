"""Lead fields of intracranial contacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.lead_field import POTENTIALS, LeadField


def contact_lead_field(
    positions: Any,
    contacts: Any,
    orientations: Any = "free",
    *,
    kind: str = "seeg",
    sensors: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    conductivity: float = 0.33,
    min_distance: float = 5.0,
    reference: str | None = None,
) -> LeadField:
    r"""
    Potentials at intracranial contacts of dipoles in a homogeneous medium without borders.

    .. math:: L = \frac{d}{4 \pi \sigma |d|^3}

    with d from the region to the contact. Bone and surface of the head are neglected: at depth, the medium near by
    counts (MNE has no forward model for such contacts).

    Parameters
    ----------
    positions, contacts : (region, 3), (sensor, 3) arrays
        Centres of the regions and places of the contacts, mm, in the same coordinates.
    orientations : (region, 3) array or "free"
    kind : {"seeg", "ecog", "dbs"}
    sensors, regions : sequences of str, optional
    conductivity : float
        S/m.
    min_distance : float
        A region is no point: contacts nearer than this (mm) measure what they would at this distance.
    reference : str, optional
        See `LeadField.referenced`; infinity if not given.

    Raises
    ------
    DataError
        Shapes, names or kind do not fit.

    Examples
    --------
    >>> field = contact_lead_field([[0, 0, 0]], [[0, 0, 10], [10, 0, 0]], [[0, 0, 1]], conductivity=1 / (4 * np.pi))
    >>> field.gain.round(6).tolist()
    [[10000.0], [0.0]]
    """
    if kind not in POTENTIALS[1:]:
        raise DataError(f"kind is {kind!r}; it must be one of {', '.join(POTENTIALS[1:])}")
    for name, value in (("conductivity", conductivity), ("min_distance", min_distance)):
        if not value > 0:
            raise DataError(f"{name} is {value}; it must be positive")
    where, places = (np.asarray(some, dtype=float) for some in (positions, contacts))
    for name, some in (("positions", where), ("contacts", places)):
        if some.ndim != 2 or some.shape[1] != 3 or not np.isfinite(some).all():
            raise DataError(
                f"{name} have the shape {some.shape} or are not finite; they must be (n, 3) in mm"
            )
    away = (places[:, None] - where[None]) / 1e3
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    # the direction is kept, and the strength is that at the least distance
    towards = away / np.maximum(distance, 1e-9)
    gain = towards / (4 * np.pi * conductivity * np.maximum(distance, min_distance / 1e3) ** 2)
    field = LeadField(
        gain,
        [f"{kind}{at}" for at in range(len(places))] if sensors is None else sensors,
        [kind] * len(places),
        [f"region{at}" for at in range(len(where))] if regions is None else regions,
        sensor_positions=places,
        positions=where,
    )
    field = field if isinstance(orientations, str) and orientations == "free" else field.fixed(orientations)
    return field.referenced(reference)
