"""What every backend reports to: the history of a fit, its best point, and the callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from brainloom.fit.trainable import Leaves, StartError, Trainable

# A fit stops when so many evaluations in a row are not numbers; each has halved the step.
PATIENCE = 30
# Settled: the last losses lie within a hundredth of what was gained, above the best.
LAST, LEAST, GAIN = 10, 20, 1e-2


class Record:
    """
    Parameters
    ----------
    trainable : Trainable
    callbacks : sequence of callables
        ``callback(info) -> bool``; true ends the fit.
    verbose : bool
        Print every evaluation.

    Attributes
    ----------
    history : list of float
        Loss of every evaluation; what is not finite is in it, too.
    best : (leaves, loss, aux) of the lowest finite loss
    n_skipped : int
        Evaluations whose loss or gradient was not finite.
    message : str
        Why the fit ended.
    """

    def __init__(
        self, trainable: Trainable, callbacks: Sequence[Callable[[dict], Any]] = (), verbose: bool = False
    ) -> None:
        self.trainable, self.callbacks, self.verbose = trainable, callbacks, verbose
        self.history: list[float] = []
        self.best: tuple[Leaves, float, Any] = ([], np.inf, None)
        self.n_skipped, self._in_a_row = 0, 0
        self.message = ""

    def add(self, leaves: Leaves, loss: Any, usable: Any, aux: Any) -> bool:
        """
        Take note of an evaluation.

        Parameters
        ----------
        leaves : list of arrays
        loss : scalar
        usable : bool
            Loss and gradient are finite.
        aux : pytree

        Returns
        -------
        bool
            The fit should end.

        Raises
        ------
        StartError
            The first evaluation is not usable.
        """
        loss, usable = float(loss), bool(usable)
        if not usable and not self.history:
            what = (
                "gradient of the loss, or a step along it, is not finite"
                if np.isfinite(loss)
                else f"loss is {loss}"
            )
            values = ", ".join(
                f"{name} = {_short(v)}" for name, v in self.trainable.constrained(leaves).items()
            )
            raise StartError(f"the {what} at the start ({values}); start from values where the model runs")
        self.history.append(loss)
        self.n_skipped += not usable
        self._in_a_row = 0 if usable else self._in_a_row + 1
        if np.isfinite(loss) and loss < self.best[1]:
            self.best = (leaves, loss, aux)
        step = len(self.history) - 1
        if self.verbose:
            print(f"evaluation {step}: loss {loss:.6g}, best {self.best[1]:.6g}")
        stop = self._called_back(step, leaves, loss)
        if self._in_a_row >= PATIENCE:
            self.message = f"{PATIENCE} evaluations in a row were not finite"
            return True
        return stop

    def settled(self) -> bool:
        """Whether the last losses hardly differ from the best."""
        if len(self.history) < LEAST:
            return False
        best = self.best[1]
        return bool(np.max(self.history[-LAST:]) - best <= GAIN * (self.history[0] - best))

    def _called_back(self, step: int, leaves: Leaves, loss: float) -> bool:
        if not self.callbacks:
            return False
        self.trainable.write(leaves)
        params = self.trainable.constrained(leaves)
        info = {"step": step, "loss": loss, "best_loss": self.best[1], "params": params}
        answers = [callback(dict(info, n_skipped=self.n_skipped)) for callback in self.callbacks]
        stop = any(bool(answer) for answer in answers)
        if stop:
            self.message = "ended by a callback"
        return stop


def _short(value: Any) -> str:
    magnitudes = np.asarray(jax.tree.leaves(value)[0], dtype=float)
    unit = f" {value.unit}" if hasattr(value, "unit") else ""
    if magnitudes.size == 1:
        return f"{magnitudes.item():.4g}{unit}"
    return f"{magnitudes.min():.4g} to {magnitudes.max():.4g}{unit}"
