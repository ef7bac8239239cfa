"""What every backend reports to: the history of one start, its best point, the callbacks, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.fit.trainable import Leaves, StartError, Trainable

# A start ends when so many evaluations in a row are not numbers; each has halved the step.
PATIENCE = 30
# Settled: the last losses lie within a hundredth of what was gained, above the best.
LAST, LEAST, GAIN = 10, 20, 1e-2
# A line search has found a minimum when so many steps together gain less than this share of all that was gained.
STILL, TINY = 5, 1e-9
# A gradient is of no use if it promises changes of the loss so many times larger than the loss and its change ...
PROMISE = 100.0
# ... in so many steps.
BROKEN = 3
# The second output of the loss is not known: it was not computed, or before a fit was resumed.
UNKNOWN = object()


class Record:
    """
    Parameters
    ----------
    trainable : Trainable
    callbacks : sequence of callables
        ``callback(info) -> bool``; true ends the fit.
    verbose : bool
        Print every evaluation.
    start : int or None
        Number of the start, if there are several.

    Attributes
    ----------
    history : list of float
        Loss of every evaluation; what is not finite is in it, too.
    best : (leaves, loss, aux) of the lowest finite loss
    n_skipped : int
        Evaluations whose loss or gradient was not finite.
    n_inner : int
        Evaluations inside of line searches, which are not in the history.
    n_steps : int
    patience : int
        The start ends when so many evaluations in a row are not finite.
    converged : bool
    message : str
        Why the start ended.
    ended, called_off : bool
        The start is at its end; a callback has ended the whole fit.
    """

    def __init__(
        self,
        trainable: Trainable,
        callbacks: Sequence[Callable[[dict], Any]] = (),
        verbose: bool = False,
        start: int | None = None,
    ) -> None:
        self.trainable, self.callbacks, self.verbose, self.start = trainable, callbacks, verbose, start
        self.history: list[float] = []
        self.best: tuple[Leaves, float, Any] = ([], np.inf, UNKNOWN)
        self.n_skipped, self.n_inner, self.n_steps, self._in_a_row, self._broken = 0, 0, 0, 0, 0
        self.patience = PATIENCE
        self.converged, self.ended, self.called_off = False, False, False
        self.message = ""

    def add(self, leaves: Leaves, loss: Any, usable: Any, aux: Any = UNKNOWN, silent: bool = False) -> bool:
        """
        Take note of an evaluation.

        Parameters
        ----------
        leaves : list of arrays
        loss : scalar
        usable : bool
            Loss and gradient are finite.
        aux : pytree
        silent : bool
            The evaluation was made before the fit was killed: callbacks have seen it.

        Returns
        -------
        bool
            The start should end.

        Raises
        ------
        StartError
            The first evaluation is not usable, and there is no other start.
        """
        loss, usable = float(loss), bool(usable)
        if not usable and not self.history:
            self.message = self._refusal(leaves, loss)
            if self.start is None:
                raise StartError(self.message)
            self.ended = True
        self.history.append(loss)
        self.n_skipped += not usable
        self._in_a_row = 0 if usable else self._in_a_row + 1
        if np.isfinite(loss) and loss < self.best[1] and not self.ended:
            self.best = (leaves, loss, aux)
        if self._in_a_row >= self.patience:
            self.message, self.ended = f"{self.patience} evaluations in a row were not finite", True
        if silent:
            return self.ended
        step = len(self.history) - 1
        if self.verbose:
            which = "" if self.start is None else f"start {self.start}, "
            print(f"{which}evaluation {step}: loss {loss:.6g}, best {self.best[1]:.6g}")
        self.called_off = self._called_back(step, leaves, loss)
        self.ended |= self.called_off
        return self.ended

    def promised(self, promise: float, change: float, loss: float) -> bool:
        """Whether the gradient has had nothing to do with how the loss changes along several steps."""
        self._broken += abs(promise) > PROMISE * max(abs(change), abs(loss))
        return self._broken >= BROKEN

    def settled(self) -> bool:
        """Whether the last losses hardly differ from the best."""
        if len(self.history) < LEAST:
            return False
        best = self.best[1]
        return bool(np.max(self.history[-LAST:]) - best <= GAIN * (self.history[0] - best))

    def still(self) -> bool:
        """Whether the last losses, each the end of a line search, are the same to rounding."""
        if len(self.history) <= STILL:
            return False
        last = np.asarray(self.history[-STILL - 1 :])
        rounding = 4.0 * float(jnp.finfo(jnp.result_type(float)).eps) * abs(last[-1])
        return bool(np.ptp(last) <= max(TINY * abs(self.history[0] - last[-1]), rounding))

    def improved(self, n: int) -> bool:
        """Whether the last `n` evaluations have gained more than a hundredth of all that was gained."""
        losses = np.asarray(self.history)
        losses = np.where(np.isfinite(losses), losses, np.inf)
        if len(losses) < 2 * n:
            return True
        before = losses[:-n].min()
        return bool(before - self.best[1] > GAIN * (losses[0] - self.best[1]))

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs, as arrays."""
        about = [self.n_skipped, self.n_inner, self.n_steps, self._in_a_row, self._broken]
        found = {
            "history": np.asarray(self.history),
            "about": np.asarray(about),
            "loss": np.array(self.best[1]),
        }
        found["ends"] = np.array([self.converged, self.ended])
        found["message"] = np.array(self.message)
        return found | {f"best_{k}": np.asarray(leaf) for k, leaf in enumerate(self.best[0])}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self.history = state["history"].tolist()
        about = state["about"].tolist()
        self.n_skipped, self.n_inner, self.n_steps, self._in_a_row, self._broken = about
        self.converged, self.ended = state["ends"].tolist()
        self.message = str(state["message"])
        leaves: Leaves = [
            jnp.asarray(state[f"best_{k}"]) for k in range(sum(name.startswith("best_") for name in state))
        ]
        self.best = (leaves, float(state["loss"]), UNKNOWN)

    def _refusal(self, leaves: Leaves, loss: float) -> str:
        what = (
            "gradient of the loss, or a step along it, is not finite"
            if np.isfinite(loss)
            else f"loss is {loss}"
        )
        values = ", ".join(f"{name} = {_short(v)}" for name, v in self.trainable.constrained(leaves).items())
        return f"the {what} at the start ({values}); start from values where the model runs"

    def _called_back(self, step: int, leaves: Leaves, loss: float) -> bool:
        if not self.callbacks:
            return False
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        self.trainable.write(leaves)
        params = self.trainable.constrained(leaves)
        info = {"step": step, "loss": loss, "best_loss": self.best[1], "params": params}
        info |= {"n_skipped": self.n_skipped, "start": self.start or 0}
        answers = [callback(dict(info)) for callback in self.callbacks]  # all of them are asked
        stop = any(bool(answer) for answer in answers)
        if stop and not self.ended:
            self.message = "ended by a callback"
        return stop


def _short(value: Any) -> str:
    magnitudes = np.asarray(jax.tree.leaves(value)[0], dtype=float)
    unit = f" {value.unit}" if hasattr(value, "unit") else ""
    if magnitudes.size == 1:
        return f"{magnitudes.item():.4g}{unit}"
    return f"{magnitudes.min():.4g} to {magnitudes.max():.4g}{unit}"
