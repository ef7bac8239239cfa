"""Fit the trainable parameters of any module to data: one object, several backends, one result."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import optax

from brainloom.fit.backends import BACKENDS, POPULATIONS
from brainloom.fit.evaluate import Loss, typed
from brainloom.fit.outcome import choose, gather, score
from brainloom.fit.record import UNKNOWN, Record
from brainloom.fit.result import FitResult, Score, Starts
from brainloom.fit.resume import Checkpoint, CheckpointError, digest
from brainloom.fit.starts import draw, scales
from brainloom.fit.task import Task
from brainloom.fit.trainable import StartError, Trainable
from brainloom.objectives import timeseries_rmse

if TYPE_CHECKING:
    from brainloom.fit.identification import Identification
    from brainloom.fit.profiles import Profile

# Traced losses whose compiled programs a Fitter keeps.
KEPT = 8


class Fitter:
    """
    Fit a model through its gradients.

    Parameters
    ----------
    model : NeuralMass, Network or brainstate module
        What is fitted: every ``brainstate.nn.Param(..., fit=True)`` in it, from its present value.
    optimizer : optional
        What the backend takes, see the table.
    loss_fn : callable, optional
        ``loss_fn(model) -> loss`` or ``(loss, anything)``. It may build a `Simulator`, draw from
        ``brainstate.random``, and write states; every evaluation starts from the same state and random numbers.
    predict : callable, optional
        ``predict(model) -> prediction``, instead of `loss_fn`. The regularisation of the parameters is added to
        the loss.
    objective : callable, optional
        ``objective(prediction, target) -> number`` for `predict`, such as those of `brainloom.objectives`;
        `timeseries_rmse` if not given.
    backend : {"grad", "scipy", "cmaes", "nevergrad"}
        | ``"grad"``: gradient descent. An optax transformation, an optimiser of ``braintools.optim``, ``"adam"``
          (rate 0.01, the default), ``"lbfgs"``, or stages ``[(optax.adam(1e-2), 200), ("lbfgs", 100)]``.
        | ``"scipy"``: ``scipy.optimize.minimize`` with exact gradients. The name of a method (L-BFGS-B if not
          given), or a dict of ``method``, ``tol`` and ``options``.
        | ``"cmaes"``: CMA-ES, no gradients. The size of the population, or a dict of ``population`` and ``sd``.
        | ``"nevergrad"``: no gradients. ``"CMA"`` (default), ``"DE"``, ``"PSO"``, ``"OnePlusOne"`` ..., or a dict of
          ``method``, ``population`` and ``sd``.
    search_space : mapping, optional
        Name to (low, high), in the unit of the parameter. The range of its transform holds without.
    callbacks : callable or sequence of callables, optional
        ``callback(info)`` after every evaluation; what is true ends the fit. `info` is a dict of ``step``,
        ``loss``, ``best_loss``, ``params``, ``n_skipped``, ``start`` and ``model``, which holds the parameters of
        that step.
    transient : int, optional
        Samples that are dropped at the start of a prediction.
    clip : float, optional
        Largest norm of the gradient (in the unconstrained space); longer ones are shortened. For ``"grad"``.
    chunk : int, optional
        Points of the populations of all starts that are evaluated at once, to save memory; all if not given.

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
        clip: float | None = None,
        chunk: int | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(map(repr, BACKENDS))}")
        if (loss_fn is None) == (predict is None):
            raise ValueError("give loss_fn(model), or predict(model) with an objective; one of the two")
        if loss_fn is not None and (objective is not None or transient is not None):
            raise ValueError("objective and transient belong to predict; loss_fn returns the loss itself")
        if transient is not None and (not isinstance(transient, int) or transient < 0):
            raise ValueError(f"transient is {transient}; it is a number of samples")
        if clip is not None and (backend != "grad" or not clip > 0):
            raise ValueError(f"clip is {clip}; it is a positive number for backend 'grad'")
        if chunk is not None and (backend not in POPULATIONS or not isinstance(chunk, int) or chunk < 1):
            raise ValueError(f"chunk is {chunk}; it is a number of points for {' and '.join(POPULATIONS)}")
        self.clip, self.chunk = clip, chunk
        self.model, self.optimizer, self.backend = model, optimizer, backend
        self.loss_fn, self.predict, self.transient = loss_fn, predict, transient
        self.objective = timeseries_rmse if objective is None else objective
        self.search_space = search_space
        self._programs: dict[str, dict] = {}
        self.seeds: list[list[int]] = []  # noise of the last fit
        self.callbacks = [callbacks] if callable(callbacks) else list(callbacks or ())

    def fit(
        self,
        target: Any = None,
        n_steps: int | None = None,
        *,
        key: jax.Array | None = None,
        n_starts: int = 1,
        n_realisations: int = 1,
        spread: float = 0.5,
        validation: Any = None,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> FitResult:
        """
        Minimise the loss and leave the model at the best point that was seen.

        Parameters
        ----------
        target : pytree of arrays, optional
            What the objective compares the prediction with: a signal, or a feature of `brainloom.objectives`.
        n_steps : int, optional
            100 if not given. ``"grad"``: evaluations of loss and gradient, or line searches; ``"scipy"``: iterations
            at most; populations: generations at most. Stages have their own.
        key : jax.random key, optional
            What ``brainstate.random`` starts from in every evaluation, so that they can be compared; starts and
            populations follow from it, too.
        n_starts : int
            The first is where the model is; see `spread`.
        n_realisations : int
            Realisations of the noise that each evaluation averages over.
        spread : float
            How far starts are drawn: from a normal distribution around the values of the model, in units of
            `brainloom.fit.starts.scales`. Parameters with a `search_space` are uniform in it, those with a prior
            (``brainstate.nn.GaussianReg`` and its like) are drawn from that.
        validation : optional
            A target for the objective, or ``validation(model) -> loss``: the start with the lowest loss on it is
            the result, rather than that with the lowest loss.
        checkpoint : path, optional
            A file that the fit is saved to and resumed from: a fit that was killed gives the same numbers.
        checkpoint_every : int
            Steps, evaluations (``"scipy"``) or generations between saves.
        verbose : bool
            Print every evaluation.

        Returns
        -------
        FitResult

        Raises
        ------
        StartError
            The loss or its gradient is not finite at any start, or there is nothing to fit.
        CheckpointError
            The checkpoint is of another fit, or damaged.
        """
        counts = {
            "n_starts": n_starts,
            "n_realisations": n_realisations,
            "checkpoint_every": checkpoint_every,
        }
        for name, n in {"n_steps": 1 if n_steps is None else n_steps, **counts}.items():
            if not isinstance(n, int) or n < 1:
                raise ValueError(f"{name} is {n}; it must be a whole number, at least 1")
        if self.loss_fn is not None and target is not None:
            raise ValueError("a target belongs to predict and objective; loss_fn holds its own data")
        if self.loss_fn is not None and validation is not None and not callable(validation):
            raise ValueError("loss_fn holds its own data; give validation(model) -> loss")
        begun = time.perf_counter()
        trainable = Trainable(self.model)
        bounds = trainable.bounds(self.search_space)
        keeper = Checkpoint(checkpoint, checkpoint_every)
        if key is None and keeper.key() is not None:
            key = jnp.asarray(keeper.key())
        drawing = n_starts > 1 or self.backend in POPULATIONS
        if key is None and (drawing or checkpoint is not None):
            key = brainstate.random.split_key()
        loss = self.reused(Loss(self.model, trainable, self._loss, target, key, n_realisations))
        seeds = loss.seeds
        starts = [trainable.leaves()]
        words: list[int] = []
        if key is not None:
            key = typed(key)
            words = np.asarray(jax.random.key_data(key)).ravel().tolist()
            seeds = seeds or ([words] if drawing else [])
            starts = draw(trainable, bounds, n_starts, jax.random.fold_in(key, 1), spread)
        callbacks = [lambda info, one=one: one({**info, "model": self.model}) for one in self.callbacks]
        records = [
            Record(trainable, callbacks, verbose, k if n_starts > 1 else None) for k in range(n_starts)
        ]
        settings = [self.backend, n_steps, n_realisations, self.clip, self.chunk]
        if checkpoint is not None:
            about = {
                "the parameters": digest(
                    [*trainable.states, repr([(leaf.shape, leaf.dtype) for leaf in starts[0]])]
                ),
                "the starts": digest(starts),
                "the target or the state of the model": digest(loss.fixed),
                "the search space": digest(bounds),
                "the settings": digest([*settings, *_named(self.optimizer)]),
            }
            keeper.belongs_to(about, np.asarray(words, np.uint32))
        task = Task(
            loss=loss,
            trainable=trainable,
            optimizer=self.optimizer,
            n_steps=n_steps,
            low=bounds[0],
            high=bounds[1],
            scales=scales(trainable, bounds),
            starts=starts,
            records=records,
            checkpoint=keeper,
            words=words,
            clip=self.clip,
            chunk=self.chunk,
        )
        try:
            BACKENDS[self.backend](task)
            if not any(np.isfinite(record.best[1]) for record in records):
                raise StartError(records[0].message)
            judged = None
            if validation is not None:
                judged = self._validate(trainable, validation, loss, records)
        except BaseException:
            trainable.write(starts[0])  # callbacks have seen the model elsewhere
            raise
        self.seeds = loss.seeds
        chosen = choose(records, judged)
        record = records[chosen]
        leaves, best, aux = record.best
        leaves = [jnp.asarray(leaf, old.dtype) for leaf, old in zip(leaves, starts[0], strict=True)]
        trainable.write(leaves)
        params = trainable.constrained(leaves)
        if aux is UNKNOWN:
            aux = None
            if loss.has_aux:
                aux = loss.compiled("both", lambda: jax.jit(loss))(leaves, loss.fixed)[1]
        return FitResult(
            best_params=params,
            best_loss=best,
            history=np.asarray(record.history),
            n_steps=record.n_steps,
            backend=self.backend,
            converged=record.converged,
            seeds=seeds,
            n_skipped=record.n_skipped,
            message=record.message,
            dims={name: _axes(name, jnp.shape(value), self.model) for name, value in params.items()},
            n_evaluations=sum(len(one.history) + one.n_inner for one in records),
            validation_loss=float("nan") if judged is None else float(judged[chosen]),
            starts=gather(trainable, records, starts, judged, chosen) if n_starts > 1 else None,
            prediction=aux,
            model=self.model,
            wall_time=time.perf_counter() - begun,
            scorer=lambda key, n: score(loss, leaves, key, n),
        )

    def evaluate(self, target: Any = None, *, key: jax.Array | None = None, n: int = 8) -> Score:
        """
        Loss at the present parameters of the model, with fresh noise.

        Parameters
        ----------
        target : pytree of arrays, optional
        key : jax.random key, optional
            Drawn from ``brainstate.random`` if not given.
        n : int
            Realisations.

        Returns
        -------
        Score
        """
        trainable = Trainable(self.model)
        key = brainstate.random.split_key() if key is None else key
        loss = self.reused(Loss(self.model, trainable, self._loss, target, key))
        return score(loss, trainable.leaves(), key, n)

    def identify(self, target: Any = None, **options: Any) -> Identification:
        """What the data say of every parameter; see `brainloom.fit.identify`."""
        from brainloom.fit.identifiability import identify

        return identify(self, target, **options)

    def profile(self, target: Any, name: str, **options: Any) -> Profile:
        """The loss along one parameter, all others fitted again; see `brainloom.fit.profile`."""
        from brainloom.fit.profiles import profile

        return profile(self, target, name, **options)

    def _validate(
        self, trainable: Trainable, validation: Any, fitted: Loss, records: list[Record]
    ) -> np.ndarray:
        """Validation loss of the best point of each start, under the noise of the fit; NaN where there is none."""
        drawn = [typed(np.asarray(words, np.uint32)) for words in fitted.seeds]
        keys: list[Any] = [*drawn] or [None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the loss itself has told of parameters without effect
            if callable(validation):
                loss = Loss(self.model, trainable, lambda _: validation(self.model), None, keys[0])
            else:
                loss = Loss(self.model, trainable, self._loss, validation, keys[0])
        loss = self.reused(loss)
        program = loss.compiled("value", lambda: jax.jit(lambda leaves, fixed: loss(leaves, fixed)[0]))
        like = trainable.leaves()
        found = np.full(len(records), np.nan)
        for k, record in enumerate(records):
            if np.isfinite(record.best[1]):
                at = [jnp.asarray(x, old.dtype) for x, old in zip(record.best[0], like, strict=True)]
                each = [
                    program(at, loss.fixed if key is None else loss.with_key(key, loss.fixed)) for key in keys
                ]
                found[k] = float(np.mean(each))
        return found

    def reused(self, loss: Loss) -> Loss:
        """A loss that shares what was compiled for the same traced function before."""
        known = loss.fingerprint()
        if known is not None:
            loss.programs = self._programs.pop(known, loss.programs)
            self._programs[known] = loss.programs
            while len(self._programs) > KEPT:
                del self._programs[next(iter(self._programs))]
        return loss

    def _loss(self, target: Any) -> Any:
        if self.loss_fn is not None:
            return self.loss_fn(self.model)
        value, prediction = self.data_loss(target)
        return value + self.model.reg_loss(), prediction

    def data_loss(self, target: Any) -> tuple[Any, Any]:
        """What the objective says of a target without regularisation, and the prediction; for ``predict``."""
        prediction = self.predict(self.model)  # type: ignore[misc]
        if self.transient:
            prediction = jax.tree.map(lambda x: x[self.transient :], prediction)
        return self.objective(prediction, target), prediction


def _axes(name: str, shape: tuple[int, ...], model: Any) -> tuple[str, ...]:
    """Names of the axes of a parameter: regions where their number fits."""
    n = getattr(getattr(model, "node", model), "varshape", (None,))[0]
    if shape in ((n,), (n, n)):
        return ("region", "region_to")[: len(shape)]
    return tuple(f"{name}_{axis}" for axis in range(len(shape)))


def _named(optimizer: Any) -> list[str]:
    """What can be said of an optimiser in words; what cannot shows in its first step."""
    alone = not isinstance(optimizer, Sequence) or isinstance(optimizer, (str, optax.GradientTransformation))
    stages = [(optimizer, 0)] if alone else optimizer
    return [repr(part) for stage in stages for part in stage if isinstance(part, (str, int, float, Mapping))]


__all__ = ["CheckpointError", "FitResult", "Fitter", "Score", "StartError", "Starts", "timeseries_rmse"]
