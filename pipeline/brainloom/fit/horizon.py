"""Gradients that explode over the simulated time, as they do where a model is chaotic."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# How far the loss is probed along its gradient, as a share of the scales of the parameters.
PROBE = 0.01
# A gradient is of no use if it promises changes of the loss so many times larger than those on both sides ...
EXPLODES = 30.0
# ... and so many times larger than what rounding makes of the loss.
ROUNDING = 1e4

# Leaves, whether of jax or numpy.
Arrays = Sequence[Any]
Evaluate = Callable[[list[list[np.ndarray]]], tuple[np.ndarray, np.ndarray]]


class Horizon:
    """Looks at a fit, and warns once."""

    def __init__(self) -> None:
        self.told = False

    def at_start(
        self,
        points: Sequence[Arrays],
        values: Any,
        slopes: Sequence[Arrays],
        scales: Arrays,
        bounds: tuple[Arrays, Arrays],
        evaluate: Evaluate,
    ) -> None:
        """Warn if the gradient explodes at one of the starts; see `growth`."""
        if self.told or not len(points):
            return
        found = np.nan_to_num(growth(points, values, slopes, scales, bounds, evaluate), nan=0.0)
        worst = int(np.argmax(found))
        if found[worst] > EXPLODES:
            self.warn(slopes[worst], found[worst])

    def warn(self, slope: Arrays, factor: float) -> None:
        """One sentence, once: the norm, what it means, what to do."""
        if self.told:
            return
        self.told = True
        norm = np.sqrt(sum(float(np.sum(np.asarray(g, float) ** 2)) for g in slope))
        warnings.warn(
            f"the gradient of the loss has norm {norm:.1e} and promises changes {factor:.0e} times larger than those that "
            "happen: it explodes over the simulated time, as it does where the model is chaotic. End it after two or "
            "three periods (Simulator.run(truncate=...)), simulate for a shorter time, compare spectra or FC instead "
            "of samples, clip it (clip=1.0), or use a backend without gradients ('cmaes')",
            stacklevel=6,
        )


def growth(
    points: Sequence[Arrays],
    values: Any,
    slopes: Sequence[Arrays],
    scales: Arrays,
    bounds: tuple[Arrays, Arrays],
    evaluate: Evaluate,
) -> np.ndarray:
    """
    By how much the gradient overstates the change of the loss a hundredth of the parameters' scales away.

    A smooth loss has about 1, whatever its curvature, as both sides of the point are looked at. Where
    trajectories part exponentially, the derivative grows like ``exp(lambda T)`` while the loss stays in its range.

    Parameters
    ----------
    points : sequence of leaves
        Where it is asked, one entry a start.
    values : sequence of float
    slopes : sequence of leaves
    scales : leaves
        See `brainloom.fit.starts.scales`.
    bounds : (low, high)
    evaluate : callable
        Losses at as many points, and whether each is usable.

    Returns
    -------
    (start,) array
        NaN where it cannot be told.
    """
    along = []
    for slope in slopes:
        scaled = [np.asarray(g, float) * s for g, s in zip(slope, scales, strict=True)]
        size = np.sqrt(sum(np.sum(g * g) for g in scaled))
        share = PROBE / size if size > 0 else 0.0
        along.append([share * s * g for g, s in zip(scaled, scales, strict=True)])
    promised, changes = np.zeros((2, len(points))), np.zeros((2, len(points)))
    for row, sign in enumerate((1.0, -1.0)):
        there = [
            [np.clip(x + sign * d, low, high) for x, d, low, high in zip(point, way, *bounds, strict=True)]
            for point, way in zip(points, along, strict=True)
        ]
        found, usable = evaluate(there)
        changes[row] = np.where(usable, np.abs(np.asarray(found, float) - values), np.nan)
        for k, (slope, end, point) in enumerate(zip(slopes, there, points, strict=True)):
            parts = (np.sum(g * (a - b)) for g, a, b in zip(slope, end, point, strict=True))
            promised[row, k] = abs(float(sum(parts)))
    largest = promised.max(axis=0)
    rounding = ROUNDING * np.finfo(np.asarray(points[0][0]).dtype).eps * np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = largest / np.max(changes, axis=0)
    return np.where(largest > rounding, factor, np.nan)
