"""Second derivatives of a fit at its optimum: of the data's part of the loss, and of the priors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.fit.bfgs import minimum
from brainloom.fit.evaluate import Loss, typed
from brainloom.fit.trainable import Leaves, Trainable
from brainloom.objectives import Objective
from brainloom.objectives.information import is_likelihood, whitened

METHODS = ("hessian", "gauss_newton")
# Directions whose part of the loss is not differentiable forwards raise these.
_NO_FORWARD = ("forward-mode", "custom_vjp", "jvp")


class Problem:
    """
    The loss of a Fitter at the present parameters of its model, its data and its priors apart.

    Points are vectors: all unconstrained numbers, one after the other.

    Parameters
    ----------
    fitter : Fitter
    target : Any
    seeds : list of list of int
        Words of the random keys, one a realisation; none: one key from ``brainstate.random``.

    Attributes
    ----------
    trainable : Trainable
    loss : Loss
        Of the data alone.
    prior : Loss or None
        The whole loss where ``loss_fn`` holds regularisation, that of the parameters where ``predict`` is given.
    at : (size,) float64 array
        Where the model is.
    """

    def __init__(self, fitter: Any, target: Any, seeds: list[list[int]]) -> None:
        self.fitter, self.trainable = fitter, Trainable(fitter.model)
        self.at = self.trainable.flat(self.trainable.leaves())
        self.target, self._seeds = target, seeds
        self._slopes: dict[int, np.ndarray] = {}
        self._of_loss_fn = fitter.loss_fn is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit has told of parameters without effect
            self.prior: Loss | None = None
            if self._of_loss_fn:
                with _without_priors(fitter.model) as called:
                    self.loss = self._traced(lambda _: fitter.loss_fn(fitter.model), None)
                if called:
                    self.prior = self._traced(lambda _: fitter.loss_fn(fitter.model), None)
            else:
                self.loss = self._traced(fitter.data_loss, target)
                if any(param.reg is not None for param in fitter.model.param_modules()):
                    self.prior = fitter.reused(
                        Loss(fitter.model, self.trainable, lambda _: fitter.model.reg_loss())
                    )

    def _traced(self, function: Callable[[Any], Any], target: Any) -> Loss:
        """The loss of a target, with the random keys of the fit."""
        keys = [typed(np.asarray(words, np.uint32)) for words in self._seeds]
        key = keys[0] if keys else None
        loss = Loss(self.fitter.model, self.trainable, function, target, key)
        if len(keys) > 1 and loss.key_place is not None:
            loss = Loss(self.fitter.model, self.trainable, function, target, key, len(keys))
            loss.fixed = loss.with_key(jnp.stack(keys), loss.fixed)
        return self.fitter.reused(loss)

    def of_target(self, target: Any) -> Loss:
        """The loss of other data."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._traced(self.fitter.data_loss, target)

    def leaves(self, vector: jax.Array) -> Leaves:
        """Leaves of a vector, traced or not."""
        shapes = self.trainable.shapes
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        parts = jnp.split(vector, ends)
        like = [leaf.dtype for leaf in self.trainable.leaves()]
        return [
            part.reshape(shape).astype(dtype) for part, shape, dtype in zip(parts, shapes, like, strict=True)
        ]

    @property
    def vector(self) -> jax.Array:
        """`at` in the precision of the parameters."""
        return jnp.asarray(self.at, jnp.result_type(*self.trainable.leaves()))

    def value(self, loss: Loss, vector: Any, fixed: Any) -> jax.Array:
        """The loss at a vector."""
        return loss(self.leaves(vector), fixed)[0]

    def gradient(self) -> np.ndarray:
        """Gradient of the whole loss where the model is."""
        total = self._slope(self.loss)
        if self.prior is None:
            return total
        own = self._slope(self.prior)
        return own if self._of_loss_fn else total + own

    def _slope(self, loss: Loss) -> np.ndarray:
        if id(loss) not in self._slopes:  # the second derivatives have not given it

            def program(x: jax.Array, fixed: Any) -> jax.Array:
                return jax.grad(lambda x: self.value(loss, x, fixed))(x)

            compiled = loss.compiled("slope", lambda: jax.jit(program))
            self._slopes[id(loss)] = np.asarray(compiled(self.vector, loss.fixed), float)
        return self._slopes[id(loss)]

    def slopes(self, loss: Loss, many: Any, place: str) -> np.ndarray:
        """
        Gradients of the data's part, one row for each target or random key.

        Parameters
        ----------
        loss : Loss
        many : pytree
            Targets or keys with an axis for them first.
        place : {"target", "key"}
        """

        def program(x: jax.Array, many: Any, fixed: Any) -> jax.Array:
            def one(each: Any) -> jax.Array:
                given = (fixed[0], each) if place == "target" else loss.with_key(each, fixed)
                if place == "target":
                    return jax.grad(lambda x: self.value(loss, x, given))(x)
                return jax.grad(lambda x: loss.once(self.leaves(x), given)[0])(x)

            return jax.lax.map(one, many)

        compiled = loss.compiled(("slopes", place), lambda: jax.jit(program))
        return np.asarray(compiled(self.vector, many, loss.fixed), float)

    def drawn(self, keys: jax.Array) -> Any:
        """Predictions under fresh keys, with an axis for them first."""
        loss = self.loss

        def program(x: jax.Array, keys: jax.Array, fixed: Any) -> Any:
            return jax.lax.map(lambda key: loss.once(self.leaves(x), loss.with_key(key, fixed))[1], keys)

        return loss.compiled("drawn", lambda: jax.jit(program))(self.vector, keys, loss.fixed)

    def refit(self, starts: np.ndarray, moves: np.ndarray, tolerance: float, n_steps: int) -> tuple:
        """
        Minimise the whole loss from each of several points, along some directions only.

        Parameters
        ----------
        starts : (point, size) array
        moves : (size, direction) array
            Directions, scaled so that the loss is round in them.
        tolerance : float
            What is left to gain at the end.
        n_steps : int

        Returns
        -------
        loss : (point,) array
        at : (point, size) array
        converged : (point,) array
        """

        def program(starts: jax.Array, moves: jax.Array, tolerance: Any, n: Any, fixed: Any) -> tuple:
            def one(start: jax.Array) -> tuple:
                return minimum(lambda z: self._whole(start + moves @ z, fixed), moves.shape[1], tolerance, n)

            z, value, done = jax.lax.map(one, starts)
            return value, starts + z @ moves.T, done

        dtype = self.vector.dtype
        given = (
            jnp.asarray(starts, dtype),
            jnp.asarray(moves, dtype),
            jnp.asarray(tolerance, dtype),
            n_steps,
        )
        fixed = (self.loss.fixed, None if self.prior is None else self.prior.fixed)
        about = ("refit", None if self.prior is None else self.prior.fingerprint() or id(self.prior))
        value, at, done = self.loss.compiled(about, lambda: jax.jit(program))(*given, fixed)
        return np.asarray(value, float), np.asarray(at, float), np.asarray(done)

    def _whole(self, vector: jax.Array, fixed: tuple) -> jax.Array:
        if self.prior is None:
            return self.value(self.loss, vector, fixed[0])
        own = self.value(self.prior, vector, fixed[1])
        return own if self._of_loss_fn else own + self.value(self.loss, vector, fixed[0])

    def curvature(self, method: str, chunk: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """
        Second derivatives of the data's part and of the priors, (size, size) each, and what to tell of them.

        Parameters
        ----------
        method : {"hessian", "gauss_newton"}
        chunk : int
            Directions at once.
        """
        notes: list[str] = []
        if method == "gauss_newton":
            data = self._gauss_newton(chunk)
        else:
            data = self._hessian(self.loss, chunk, notes)
        prior = np.zeros_like(data)
        if self.prior is not None:
            prior = self._hessian(self.prior, chunk, notes)
            if self._of_loss_fn:
                prior = prior - data
                # the rounding of what the data have taken from it is no prior
                prior[np.abs(prior) < _rounding(self.vector) * np.abs(data).max(initial=0.0)] = 0.0
        return data, prior, list(dict.fromkeys(notes))

    def _hessian(self, loss: Loss, chunk: int, notes: list[str]) -> np.ndarray:
        def program(x: jax.Array, fixed: Any) -> tuple[jax.Array, jax.Array]:
            slope = jax.grad(lambda x: self.value(loss, x, fixed))
            slopes, found = _along_all(lambda v: jax.jvp(slope, (x,), (v,)), x, chunk)
            return slopes[0], found

        try:
            compiled = loss.compiled(("hessian", chunk), lambda: jax.jit(program))
            first, found = (np.asarray(one, float) for one in compiled(self.vector, loss.fixed))
            self._slopes[id(loss)] = first
        except (TypeError, ValueError, NotImplementedError) as error:
            if not any(word in str(error).lower() for word in _NO_FORWARD):
                raise
            notes.append(
                "Second derivatives are central differences of gradients: a part of the loss has no forward derivative."
            )
            found = self._by_differences(loss)
        return 0.5 * (found + found.T)

    def _by_differences(self, loss: Loss) -> np.ndarray:
        x = self.vector
        step = np.cbrt(np.finfo(x.dtype).eps) * np.maximum(1.0, np.abs(self.at))

        def program(x: jax.Array, steps: jax.Array, fixed: Any) -> jax.Array:
            slope = jax.grad(lambda x: self.value(loss, x, fixed))

            def one(pair: Any) -> jax.Array:
                place, size = pair
                move = jnp.zeros_like(x).at[place].set(size)
                up, down = x + move, x - move
                return (slope(up) - slope(down)) / (up[place] - down[place])

            return jax.lax.map(one, (jnp.arange(len(x)), steps))

        compiled = loss.compiled("differences", lambda: jax.jit(program))
        return np.asarray(compiled(x, jnp.asarray(step, x.dtype), loss.fixed), float)

    def _gauss_newton(self, chunk: int) -> np.ndarray:
        """``J' H J`` of prediction and objective; the expected information of a likelihood."""
        loss, objective = self.loss, self.fitter.objective
        if self._of_loss_fn:
            raise ValueError(
                "method 'gauss_newton' needs predict and objective; a loss_fn has method='hessian'"
            )
        known = isinstance(objective, Objective) and is_likelihood(objective) is True
        target = self.target

        def once(x: jax.Array, fixed: Any) -> jax.Array:
            given = target if fixed[1] is None else fixed[1]
            predict = lambda x: loss.once(self.leaves(x), fixed)[1]  # noqa: E731
            if known:
                at = predict(x)
                white = lambda x: whitened(objective, predict(x), at, given)  # noqa: E731
                rows = _along_all(lambda v: jax.jvp(white, (x,), (v,))[1], x, chunk)
                return rows @ rows.T
            here, push = jax.linearize(predict, x)

            def straight(move: jax.Array) -> jax.Array:
                bent = jax.tree.map(
                    lambda a, b: a if b.dtype == jax.dtypes.float0 else a + b, here, push(move)
                )
                return jnp.asarray(objective(bent, given)).reshape(())

            slope = jax.grad(straight)
            along = lambda v: jax.jvp(slope, (jnp.zeros_like(x),), (v,))[1]  # noqa: E731
            return _along_all(along, x, chunk)

        def program(x: jax.Array, fixed: Any) -> jax.Array:
            if loss.key_place is None or not loss.several:
                return once(x, fixed)
            keys = fixed[0][loss.key_place]
            return jnp.mean(jax.lax.map(lambda key: once(x, loss.with_key(key, fixed)), keys), axis=0)

        about = ("gauss_newton", chunk, repr(objective))
        # an objective of one's own may close over anything
        compiled = loss.compiled(about, lambda: jax.jit(program)) if known else jax.jit(program)
        found = np.asarray(compiled(self.vector, loss.fixed), float)
        return 0.5 * (found + found.T)


def _along_all(along: Callable[[jax.Array], Any], x: jax.Array, chunk: int) -> Any:
    """A derivative along every coordinate, so many at once; filled up, as a smaller last batch would be compiled, too."""
    n, size = len(x), min(chunk, len(x))
    found = jax.lax.map(along, jnp.eye(n + -n % size, n, dtype=x.dtype), batch_size=size)
    return jax.tree.map(lambda one: one[:n], found)


def _rounding(x: jax.Array) -> float:
    return 1e3 * float(np.finfo(x.dtype).eps)


@contextmanager
def _without_priors(model: Any) -> Iterator[list[bool]]:
    """Regularisation is 0 for a model and all its parameters; the list is filled where it was asked for."""
    called: list[bool] = []

    def none(*_: Any, **__: Any) -> float:
        called.append(True)
        return 0.0

    nodes = [node for node in (model, *model.nodes().values()) if hasattr(node, "reg_loss")]
    for node in nodes:
        vars(node)["reg_loss"] = none
    try:
        yield called
    finally:
        for node in nodes:
            vars(node).pop("reg_loss", None)
