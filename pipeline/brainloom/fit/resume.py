"""Checkpoints of fits: what is saved, whether it belongs to this fit, and evaluations that are not made twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from brainloom.core.errors import BrainloomError
from brainloom.fit.archive import read_npz, write_npz

_FORMAT = "brainloom checkpoint 1"
_HEAD = {"format", "about", "key"}


class CheckpointError(BrainloomError, ValueError):
    """A checkpoint is damaged, or was made by another fit."""


def digest(tree: Any) -> str:
    """Hash of the structure, types, shapes and bytes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        value = plain_array(leaf)
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(repr(leaf).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes())
    return found.hexdigest()[:32]


def plain_array(leaf: Any) -> np.ndarray:
    """An array of numpy; random keys as their words."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


class Checkpoint:
    """
    One file that a fit is resumed from.

    Parameters
    ----------
    path : path or None
        Nothing is saved without one.
    every : int
        Steps between saves.
    """

    def __init__(self, path: str | os.PathLike | None, every: int = 10) -> None:
        self.path = None if path is None else Path(path)
        self.every = every
        self.about: dict[str, str] = {}
        self._stored = self._read()

    def key(self) -> np.ndarray | None:
        """Words of the random key of the fit that is resumed."""
        return None if self._stored is None else self._stored["key"]

    def belongs_to(self, about: Mapping[str, str], key: np.ndarray) -> None:
        """
        Say which fit this is.

        Parameters
        ----------
        about : mapping of str to str
            Hashes of all that the fit depends on, by names that a user understands.
        key : array
            Words of its random key.

        Raises
        ------
        CheckpointError
            The file was written by another fit.
        """
        self.about, self._key = dict(about), key
        if self._stored is None:
            self.save({})  # from now on, a fit without a key of its own takes this one
        else:
            theirs = json.loads(str(self._stored["about"]))
            other = [name for name in self.about if theirs.get(name) != self.about[name]]
            if other:
                raise self.foreign(f"{', '.join(other)} differ{'s' * (len(other) == 1)}")

    def foreign(self, why: str) -> CheckpointError:
        """The error to raise where a file is not of this fit."""
        return CheckpointError(
            f"{self.path} is the checkpoint of another fit ({why}); delete it or give another path"
        )

    def load(self) -> dict[str, np.ndarray] | None:
        """What was saved last, or None."""
        return None if self._stored is None or set(self._stored) <= _HEAD else self._stored

    def due(self, step: int) -> bool:
        """Whether to save after so many steps."""
        return self.path is not None and step % self.every == 0

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace what was saved."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = {"format": np.array(_FORMAT), "about": np.array(json.dumps(self.about)), "key": self._key}
        write_npz(self.path, {**head, **arrays})

    def _read(self) -> dict[str, np.ndarray] | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            found = read_npz(self.path)
            if str(found["format"]) != _FORMAT:
                raise ValueError
        except Exception as error:  # a truncated archive raises many kinds
            raise CheckpointError(
                f"{self.path} is not a checkpoint of a fit, or it is damaged; delete it or give another path"
            ) from error
        return found


class Tape:
    """
    All evaluations of an optimiser that runs outside of compiled programs, in order.

    An optimiser is resumed by running it again: it asks for the same points, and the tape answers until it ends.
    So its state, random numbers included, is what it was, whoever wrote it. The points are compared by their hash;
    the first evaluation is made again, so that another loss is noticed.

    Parameters
    ----------
    checkpoint : Checkpoint
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._values: list[np.ndarray] = []
        self._slopes: list[np.ndarray] = []
        self._chain = hashlib.sha256()
        stored = checkpoint.load()
        self._stored = {} if stored is None else stored
        self._n_stored = len(self._stored.get("values", ()))

    def evaluate(self, points: np.ndarray, compute: Callable[[], tuple]) -> tuple[np.ndarray, Any, Any, bool]:
        """
        Losses of points.

        Parameters
        ----------
        points : (row, size) array
        compute : callable
            ``() -> (values, slopes or None, anything)``.

        Returns
        -------
        values : (row,) array
        slopes : (row, size) array or None
        rest : Any
            Third output of `compute`, None where the tape has answered.
        replayed : bool
            The tape has answered.
        """
        self._chain.update(np.ascontiguousarray(points).tobytes())
        place, rest = len(self._values), None
        replayed = place < self._n_stored
        if replayed:
            values = self._stored["values"][place]
            slopes = self._stored["slopes"][place] if "slopes" in self._stored else None
        if not replayed or place == 0:
            made = compute()
            if replayed and not np.array_equal(made[0], values, equal_nan=True):
                raise self._checkpoint.foreign(
                    f"the loss at the start is {made[0][0]:.9g} here and {values[0]:.9g} there"
                )
            values, slopes, rest = made
        self._values.append(values)
        if slopes is not None:
            self._slopes.append(slopes)
        if replayed and place + 1 == self._n_stored and self._chain.hexdigest() != str(self._stored["chain"]):
            raise self._checkpoint.foreign("the optimiser asks for other points")
        return values, slopes, rest, replayed

    def save(self, last: bool = False) -> None:
        """Save if it is time to, or at the end."""
        n = len(self._values)
        if n > self._n_stored and (last or self._checkpoint.due(n)):
            arrays: dict[str, Any] = {
                "values": np.stack(self._values),
                "chain": np.array(self._chain.hexdigest()),
            }
            if self._slopes:
                arrays["slopes"] = np.stack(self._slopes)
            self._checkpoint.save(arrays)
