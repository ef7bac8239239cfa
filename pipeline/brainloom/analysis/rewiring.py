"""Rewired connectomes: who is connected with whom at random, how many each region is connected with as measured."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components

#: From this share of connected pairs on, rewiring leaves too little to change.
MAX_DENSITY = 0.5
#: What is said where the density would allow it.
NO_SWAP = (
    "No connection of the connectome can be rewired without doubling another or cutting the network in two, so control_rewired "
    "was not fitted; edge_shuffle and distance_shuffle are the controls of such connectomes."
)
# Swaps of an edge on average; overlap with the original has then reached its limit.
_SWAPS = 10
# Attempts a swap: dense and star-like networks refuse most.
_ATTEMPTS = 100
# Strengths are matched anew this often while weights are handed out.
_ROUNDS = 10


def density(weights: np.ndarray) -> float:
    """Share of the pairs of regions that are connected."""
    weights = np.asarray(weights)
    return float(np.mean(weights[np.triu_indices(len(weights), 1)] > 0))


def refusal(weights: np.ndarray) -> str:
    """Why a connectome cannot be rewired, in one sentence; empty if it can."""
    share = density(weights)
    if share < MAX_DENSITY:
        return ""
    return (
        f"The connectome has density {share:.2f}, and degree-preserving rewiring needs one below {MAX_DENSITY:g}: it would change "
        "little or nothing, so control_rewired was not fitted; edge_shuffle and distance_shuffle are the controls of such connectomes."
    )


def rewire(weights: np.ndarray, seed: int) -> np.ndarray:
    """
    Degree-preserving rewiring of a sparse connectome (Maslov & Sneppen 2002, Science 296:910).

    Ends of randomly chosen pairs of edges are swapped, ten times an edge on average, which keeps the number of connections of
    each region and no other topology; a connected network stays connected (swaps are taken back in blocks that cut it, Viger
    & Latapy 2005). The measured weights are then put on the new edges, each where the product of the strengths that regions still lack has the
    same rank (Rubinov & Sporns 2011, NeuroImage 56:2068), which keeps strengths roughly and their mean exactly.

    Parameters
    ----------
    weights : (region, region) array
        Its symmetric part counts, without the diagonal.
    seed : int

    Returns
    -------
    (region, region) array
        Symmetric, with the degrees, the multiset of weights and the mean strength of the input.

    Raises
    ------
    ValueError
        Half of the pairs or more are connected; or no swap was found.
    """
    reason = refusal(weights)
    if reason:
        raise ValueError(reason)
    weights = np.asarray(weights, dtype=np.float64)
    weights = 0.5 * (weights + weights.T)
    np.fill_diagonal(weights, 0.0)
    n = len(weights)
    edges = np.argwhere(np.triu(weights, 1) > 0)
    random = np.random.default_rng(seed)
    found = rewired_edges(edges, n, random)
    values = _matched_weights(found, weights[edges[:, 0], edges[:, 1]], weights.sum(axis=1), random)
    out = np.zeros((n, n))
    out[found[:, 0], found[:, 1]] = values
    return out + out.T


def rewired_edges(edges: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """
    Swap ends of edges; no edge is doubled, no region connected with itself, no component split.

    Parameters
    ----------
    edges : (edge, 2) int array
    n : int
        Regions.
    random : numpy.random.Generator

    Returns
    -------
    (edge, 2) int array of the same degrees.
    """
    ends = edges.copy()
    pieces = _components(ends, n)
    block, done, tried = len(ends), 0, 0
    wanted = _SWAPS * len(ends)
    while done < wanted and tried < _ATTEMPTS * wanted:
        new, swaps, attempts = _swapped(ends, n, min(block, wanted - done), random)
        tried += attempts
        if _components(new, n) > pieces:
            block = max(1, block // 2)  # shorter blocks are cut less often
            continue
        ends, done, block = new, done + swaps, min(2 * block, len(ends))
    if done == 0:
        raise ValueError(NO_SWAP)
    return ends


def _swapped(
    edges: np.ndarray, n: int, wanted: int, random: np.random.Generator
) -> tuple[np.ndarray, int, int]:
    """Edges after some swaps, how many there were, and attempts."""
    ends = edges.tolist()
    linked = [bytearray(n) for _ in range(n)]
    for a, b in ends:
        linked[a][b] = linked[b][a] = 1
    swaps, attempts, limit = 0, 0, _ATTEMPTS * wanted
    while swaps < wanted and attempts < limit:
        size = min(4 * wanted, limit - attempts)
        picks = random.integers(0, len(ends), (size, 2)).tolist()
        turns = random.integers(0, 2, size).tolist()
        for (i, j), turn in zip(picks, turns, strict=True):
            attempts += 1
            a, b = ends[i]
            c, d = ends[j] if turn else ends[j][::-1]
            if a in (c, d) or b in (c, d) or linked[a][d] or linked[c][b]:
                continue
            linked[a][b] = linked[b][a] = linked[c][d] = linked[d][c] = 0
            linked[a][d] = linked[d][a] = linked[c][b] = linked[b][c] = 1
            ends[i], ends[j] = [a, d], [c, b]
            swaps += 1
            if swaps == wanted:
                break
    return np.array(ends), swaps, attempts


def _components(edges: np.ndarray, n: int) -> int:
    matrix = np.zeros((n, n), dtype=np.int8)
    matrix[edges[:, 0], edges[:, 1]] = 1
    return int(connected_components(matrix, directed=False, return_labels=False))


def _matched_weights(
    edges: np.ndarray, values: np.ndarray, strength: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Weights of the new edges: largest where both regions still lack most of their strength."""
    lacking = strength.copy()
    out = np.zeros(len(edges))
    open_edges = np.arange(len(edges))
    free = np.sort(values)
    rounds = min(_ROUNDS, len(edges))
    for part in np.array_split(random.permutation(len(edges)), rounds):
        a, b = edges[open_edges, 0], edges[open_edges, 1]
        order = np.argsort(lacking[a] * lacking[b], kind="stable")
        ranks = np.sort(random.choice(len(open_edges), len(part), replace=False))
        chosen = open_edges[order[ranks]]
        out[chosen] = free[ranks]
        np.subtract.at(lacking, edges[chosen].ravel(), np.repeat(out[chosen], 2))
        lacking = np.maximum(lacking, 0.0)
        keep = np.ones(len(open_edges), dtype=bool)
        keep[order[ranks]] = False
        open_edges, free = open_edges[keep], np.delete(free, ranks)
    return out
