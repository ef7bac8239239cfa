"""What a backend gets: one problem, its starts, and where to report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from brainloom.fit.evaluate import Loss
from brainloom.fit.record import Record
from brainloom.fit.resume import Checkpoint
from brainloom.fit.trainable import Leaves, Trainable

DEFAULT_STEPS = 100


@dataclass(frozen=True)
class Task:
    """
    A fit to do.

    Attributes
    ----------
    loss : Loss
    trainable : Trainable
    optimizer : Any
        What the user gave; each backend has its kinds.
    n_steps : int or None
    low, high : list of arrays
        Bounds of the leaves.
    scales : list of arrays
        See `starts.scales`.
    starts : list of leaves
    records : list of Record
        One for each start.
    checkpoint : Checkpoint
    words : list of int
        Seed of a population.
    clip : float or None
        Largest norm of a gradient.
    chunk : int or None
        Points that are evaluated at once.
    """

    loss: Loss
    trainable: Trainable
    optimizer: Any
    n_steps: int | None
    low: list[np.ndarray]
    high: list[np.ndarray]
    scales: list[np.ndarray]
    starts: list[Leaves]
    records: list[Record]
    checkpoint: Checkpoint
    words: list[int]
    clip: float | None = None
    chunk: int | None = None

    @property
    def steps(self) -> int:
        """Steps to make where no stages say so."""
        return DEFAULT_STEPS if self.n_steps is None else self.n_steps
