"""From tractography tables to the weights and lengths of a model: pure functions on arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from brainloom.core.errors import DataError

TRANSFORMS = ("linear", "sqrt", "log")
NORMALISATIONS = ("mean_strength", "max", "none")

_SIDES = {"l": "L", "lh": "L", "left": "L", "r": "R", "rh": "R", "right": "R"}


def symmetrise(matrix: np.ndarray) -> np.ndarray:
    """Mean of a matrix and its transpose; where only one of the two entries is a number, that one.

    Parameters
    ----------
    matrix : ndarray, (region, region_to)

    Returns
    -------
    ndarray, (region, region_to), exactly symmetric.
    """
    matrix = np.asarray(matrix, dtype=float)
    other = matrix.T
    mean = (matrix + other) / 2
    return np.where(np.isnan(matrix), other, np.where(np.isnan(other), matrix, mean))


def zero_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Copy of a square matrix without self-connections."""
    matrix = np.array(matrix, dtype=float)
    np.fill_diagonal(matrix, 0.0)
    return matrix


def transform_weights(weights: np.ndarray, how: str) -> np.ndarray:
    """Compress the range of the weights: ``linear`` (w), ``sqrt`` (w^0.5) or ``log`` (log(1 + w)).

    Raises
    ------
    ValueError
        If ``how`` is none of these.
    """
    weights = np.asarray(weights, dtype=float)
    if how == "linear":
        return weights.copy()
    if how == "sqrt":
        return np.sqrt(weights)
    if how == "log":
        return np.log1p(weights)
    raise ValueError(f"connectome.transform is {how!r}; it must be one of {', '.join(TRANSFORMS)}")


def normalise_weights(weights: np.ndarray, how: str) -> tuple[np.ndarray, float]:
    """Divide the weights by one number.

    Parameters
    ----------
    weights : ndarray, (region, region_to), not negative and not all zero.
    how : ``mean_strength`` (the mean over regions of the row sums becomes 1), ``max`` (the largest weight becomes 1)
        or ``none``.

    Returns
    -------
    weights : ndarray, (region, region_to)
    scale : float, the divisor, in the units of the weights given.

    Raises
    ------
    ValueError
        If ``how`` is none of these.
    """
    weights = np.asarray(weights, dtype=float)
    if how == "mean_strength":
        scale = float(weights.sum(axis=1).mean())
    elif how == "max":
        scale = float(weights.max())
    elif how == "none":
        scale = 1.0
    else:
        raise ValueError(f"connectome.normalise is {how!r}; it must be one of {', '.join(NORMALISATIONS)}")
    return weights / scale, scale


def prepare_weights(
    weights: np.ndarray, *, transform: str = "linear", normalise: str = "mean_strength"
) -> tuple[np.ndarray, float]:
    """Weights as a model uses them: symmetric, without self-connections, transformed, then normalised.

    Parameters
    ----------
    weights : ndarray, (region, region_to), checked by `brainloom.io.checks.check_connectome`.
    transform : see `transform_weights`.
    normalise : see `normalise_weights`.

    Returns
    -------
    weights : ndarray, (region, region_to)
    scale : float, what the transformed weights were divided by.

    Examples
    --------
    >>> prepare_weights([[0, 4], [2, 0]])
    (array([[0., 1.],
           [1., 0.]]), 3.0)
    """
    prepared = transform_weights(zero_diagonal(symmetrise(weights)), transform)
    return normalise_weights(prepared, normalise)


def prepare_lengths(lengths: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, int]:
    """Symmetric fibre lengths of all pairs, those of unconnected pairs filled in.

    Tractography has no length where it found no fibre (0 or n/a), but comparing with distance needs one for every pair.
    It is taken as the length of the shortest chain of connections that links the two regions.

    Parameters
    ----------
    lengths : ndarray, (region, region_to), mm.
    weights : ndarray, (region, region_to), symmetric.

    Returns
    -------
    lengths : ndarray, (region, region_to), mm, zero diagonal. NaN between regions that no chain links.
    n_filled : number of pairs filled in.
    """
    lengths = np.asarray(lengths, dtype=float)
    lengths = zero_diagonal(symmetrise(np.where(lengths > 0, lengths, np.nan)))
    unknown = np.isnan(lengths) & (np.asarray(weights) == 0)
    if not unknown.any():
        return lengths, 0
    from scipy.sparse.csgraph import shortest_path

    chains = shortest_path(np.where(unknown, 0.0, lengths), directed=False)
    chains[np.isinf(chains)] = np.nan
    return np.where(unknown, chains, lengths), int(unknown.sum()) // 2


def split_label(label: str) -> tuple[str, str, bool] | None:
    """Side of a region by its label.

    Parameters
    ----------
    label : such as ``Precentral_L``, ``lh.bankssts``, ``ctx-rh-insula``, ``Left-Thalamus`` or ``7Networks_LH_Vis_1``.

    Returns
    -------
    tuple or None
        Side (``L`` or ``R``), label without it, and whether the mirror region bears the same name. That is not so where
        the side stands in the middle of the label: such atlases number the parcels of each hemisphere independently.
        None if no side is found.

    Examples
    --------
    >>> split_label("Precentral_L"), split_label("lh.bankssts"), split_label("Brainstem")
    (('L', 'Precentral_*', True), ('L', '*.bankssts', True), None)
    """
    tokens = re.split(r"([._\-\s]+)", label.strip())
    words = range(0, len(tokens), 2)
    sides = [at for at in words if tokens[at].lower() in _SIDES]
    if len(tokens) < 3 or not sides:
        return None
    first = 2 if tokens[0].lower() == "ctx" else 0
    ends = [at for at in (len(tokens) - 1, first) if at in sides]
    at = (ends or sides)[0]
    side = _SIDES[tokens[at].lower()]
    return side, "".join([*tokens[:at], "*", *tokens[at + 1 :]]), bool(ends)


def find_hemispheres(labels: Sequence[str], given: Sequence[str] | None = None) -> list[str]:
    """Hemisphere of every region: as the atlas table gives it, else by the label.

    Parameters
    ----------
    labels : (region,)
    given : (region,), ``L``, ``R`` or ``n/a``, from the atlas table.

    Returns
    -------
    list of str, (region,): ``L``, ``R`` or ``n/a``.
    """
    by_label = [(split_label(label) or ("n/a",))[0] for label in labels]
    if given is None or all(side == "n/a" for side in given):
        return by_label
    return list(given)


def find_homotopes(labels: Sequence[str], given: np.ndarray | None = None) -> np.ndarray:
    """Position of the mirror region of every region.

    Parameters
    ----------
    labels : (region,)
    given : ndarray of int, (region,), from the atlas table; used as it is.

    Returns
    -------
    ndarray of int, (region,), -1 where there is none.

    Raises
    ------
    DataError
        If two labels of one side differ in nothing but the spelling of the side.

    Examples
    --------
    >>> find_homotopes(["Insula_L", "Insula_R", "Vermis"])
    array([ 1,  0, -1])
    """
    if given is not None:
        return np.asarray(given)
    place: dict[tuple[str, str], int] = {}
    for at, label in enumerate(labels):
        parts = split_label(label)
        if parts is None or not parts[2]:
            continue
        side, name, _ = parts
        if (side, name) in place:
            raise DataError(
                f"atlas regions {labels[place[side, name]]!r} and {label!r} are the same side of one name; "
                "rename one, or give the atlas table a column named homotope"
            )
        place[side, name] = at
    mirror = np.full(len(labels), -1)
    for (side, name), at in place.items():
        mirror[at] = place.get(("R" if side == "L" else "L", name), -1)
    return mirror
