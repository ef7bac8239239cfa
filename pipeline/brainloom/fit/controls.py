"""Negative controls: the connectomes that a subject's recording is also fitted with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainloom.analysis import nulls
from brainloom.analysis.rewiring import rewire


def control_connectomes(
    settings: Mapping, weights: np.ndarray, lengths: np.ndarray, donor: np.ndarray | None, seed: int
) -> dict[str, np.ndarray]:
    """
    Connectomes that keep less and less of the subject's wiring.

    Homotopic connections are a term of the model, not of the connectome: every control keeps them, so that
    the comparison is about the measured wiring alone.

    Parameters
    ----------
    settings : mapping
        Config section ``analyse.controls``.
    weights, lengths : (region, region) arrays
    donor : (region, region) array, optional
        Another subject's weights; without it that control is left out.
    seed : int
        Of the random permutations.

    Returns
    -------
    dict
        ``control_<kind>`` or ``control_<kind>:<k>`` to (region, region) weights of the same mean strength. Rewired ones
        only of connectomes that can be rewired (`brainloom.analysis.rewiring`).
    """
    out: dict[str, np.ndarray] = {}
    if settings["other_subject"] and donor is not None:
        out["control_other_subject"] = donor
    for k in range(settings["edge_shuffle"]):
        out[f"control_edge_shuffle:{k}"] = nulls.edge_shuffle(weights, seed + k)
    for k in range(settings["distance_shuffle"]):
        out[f"control_distance_shuffle:{k}"] = nulls.distance_shuffle(weights, lengths, seed + k)
    for k in range(settings.get("rewire", 0)):
        try:
            out[f"control_rewired:{k}"] = rewire(weights, seed + k)
        except (
            ValueError
        ):  # too dense, or nothing to swap: the step analyse says so in the subject's warnings
            break
    if settings["uniform"]:
        out["control_uniform"] = nulls.uniform(weights)
    if settings["distance"]:
        out["control_distance"] = nulls.distance_only(weights, lengths)
    return out
