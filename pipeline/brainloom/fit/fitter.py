"""Fit the trainable parameters of any module to data: one object, several backends, one result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.fit.backends import BACKENDS
from brainloom.fit.evaluate import Loss
from brainloom.fit.record import Record
from brainloom.fit.result import FitResult
from brainloom.fit.trainable import StartError, Trainable
from brainloom.objectives import timeseries_rmse


class Fitter:
    """
    Fit a model through its gradients.

    Parameters
    ----------
    model : NeuralMass, Network or brainstate module
        What is fitted: every ``brainstate.nn.Param(..., fit=True)`` in it, from its present value.
    optimizer : optional
        ``"grad"``: an optax transformation (Adam with rate 0.01 if not given) or an optimiser of
        ``braintools.optim``; ``"scipy"``: the name of a method, or a dict of ``method``, ``tol`` and ``options``.
    loss_fn : callable, optional
        ``loss_fn(model) -> loss`` or ``(loss, anything)``. It may build a `Simulator`, draw from
        ``brainstate.random``, and write states; every evaluation starts from the same state and random numbers.
    predict : callable, optional
        ``predict(model) -> prediction``, instead of `loss_fn`. The regularisation of the parameters is added to
        the loss.
    objective : callable, optional
        ``objective(prediction, target) -> number`` for `predict`, such as those of `brainloom.objectives`;
        `timeseries_rmse` if not given.
    backend : {"grad", "scipy"}
        Gradient descent with optax, or ``scipy.optimize.minimize`` (L-BFGS-B) with the same gradients.
    search_space : mapping, optional
        Name to (low, high), in the unit of the parameter. The range of its transform holds without.
    callbacks : callable or sequence of callables, optional
        ``callback(info)`` after every evaluation; what is true ends the fit. `info` is a dict of ``step``,
        ``loss``, ``best_loss``, ``params``, ``n_skipped`` and ``model``, which holds the parameters of that step.
    transient : int, optional
        Samples that are dropped at the start of a prediction.

    Raises
    ------
    ValueError
        An unknown backend; both or none of `loss_fn` and `predict`.

    Examples
    --------
    >>> import brainstate, jax.numpy as jnp
    >>> class Gain(brainstate.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gain = brainstate.nn.Param(0.0, fit=True)
    >>> signal = jnp.sin(jnp.arange(50.0))
    >>> fitter = Fitter(Gain(), predict=lambda model: model.gain.value() * signal, backend="scipy")
    >>> round(float(fitter.fit(2.0 * signal).best_params["gain"]), 4)
    2.0
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        loss_fn: Callable[[Any], Any] | None = None,
        predict: Callable[[Any], Any] | None = None,
        objective: Callable[[Any, Any], Any] | None = None,
        backend: str = "grad",
        search_space: Mapping[str, Any] | None = None,
        callbacks: Callable[[dict], Any] | Sequence[Callable[[dict], Any]] | None = None,
        transient: int | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(map(repr, BACKENDS))}")
        if (loss_fn is None) == (predict is None):
            raise ValueError("give loss_fn(model), or predict(model) with an objective; one of the two")
        if loss_fn is not None and (objective is not None or transient is not None):
            raise ValueError("objective and transient belong to predict; loss_fn returns the loss itself")
        if transient is not None and (not isinstance(transient, int) or transient < 0):
            raise ValueError(f"transient is {transient}; it is a number of samples")
        self.model, self.optimizer, self.backend = model, optimizer, backend
        self.loss_fn, self.predict, self.transient = loss_fn, predict, transient
        self.objective = timeseries_rmse if objective is None else objective
        self.search_space = search_space
        self.callbacks = [callbacks] if callable(callbacks) else list(callbacks or ())

    def fit(
        self,
        target: Any = None,
        n_steps: int = 100,
        *,
        key: jax.Array | None = None,
        n_starts: int = 1,
        checkpoint: Any = None,
        verbose: bool = False,
    ) -> FitResult:
        """
        Minimise the loss and leave the model at the best point that was seen.

        Parameters
        ----------
        target : pytree of arrays, optional
            What the objective compares the prediction with: a signal, or a feature of `brainloom.objectives`.
        n_steps : int
            ``"grad"``: evaluations of loss and gradient; ``"scipy"``: iterations at most.
        key : jax.random key, optional
            What ``brainstate.random`` starts from in every evaluation, so that they can be compared.
        n_starts : int
            Only 1.
        checkpoint : path, optional
            Must be None.
        verbose : bool
            Print every evaluation.

        Returns
        -------
        FitResult

        Raises
        ------
        StartError
            The loss or its gradient is not finite at the start, or there is nothing to fit.
        """
        if n_starts != 1:
            raise ValueError(
                f"n_starts is {n_starts}; a fit has one start, so set others and call fit for each"
            )
        if checkpoint is not None:
            raise ValueError(
                "fits cannot be resumed from a checkpoint; leave checkpoint=None and save the result"
            )
        if not isinstance(n_steps, int) or n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}; it must be a whole number, at least 1")
        if self.loss_fn is not None and target is not None:
            raise ValueError("a target belongs to predict and objective; loss_fn holds its own data")
        begun = time.perf_counter()
        trainable = Trainable(self.model)
        bounds = trainable.bounds(self.search_space)
        loss = Loss(self.model, trainable, self._loss, target, key)
        callbacks = [lambda info, one=one: one({**info, "model": self.model}) for one in self.callbacks]
        record = Record(trainable, callbacks, verbose)
        start = trainable.leaves()
        try:
            done, converged = BACKENDS[self.backend](loss, trainable, self.optimizer, n_steps, bounds, record)
        except BaseException:
            trainable.write(start)  # callbacks have seen the model elsewhere
            raise
        leaves, best, aux = record.best
        trainable.write(leaves)
        params = trainable.constrained(leaves)
        return FitResult(
            best_params=params,
            best_loss=best,
            history=np.asarray(record.history),
            n_steps=done,
            backend=self.backend,
            converged=converged,
            seeds=loss.seeds,
            n_skipped=record.n_skipped,
            message=record.message,
            dims={name: _axes(name, jnp.shape(value), self.model) for name, value in params.items()},
            prediction=aux,
            model=self.model,
            wall_time=time.perf_counter() - begun,
        )

    def _loss(self, target: Any) -> Any:
        if self.loss_fn is not None:
            return self.loss_fn(self.model)
        prediction = self.predict(self.model)  # type: ignore[misc]
        if self.transient:
            prediction = jax.tree.map(lambda x: x[self.transient :], prediction)
        return self.objective(prediction, target) + self.model.reg_loss(), prediction


def _axes(name: str, shape: tuple[int, ...], model: Any) -> tuple[str, ...]:
    """Names of the axes of a parameter: regions where their number fits."""
    n = getattr(getattr(model, "node", model), "varshape", (None,))[0]
    if shape in ((n,), (n, n)):
        return ("region", "region_to")[: len(shape)]
    return tuple(f"{name}_{axis}" for axis in range(len(shape)))


__all__ = ["FitResult", "Fitter", "StartError", "timeseries_rmse"]
