"""Gradient descent with optax: stages, line searches, all starts in one compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import optax

from brainloom.fit.batching import runs_in_turn
from brainloom.fit.horizon import Horizon
from brainloom.fit.record import UNKNOWN, Record
from brainloom.fit.resume import plain_array
from brainloom.fit.task import Task
from brainloom.fit.trainable import Leaves

# After so many evaluations in a row that are not finite, an optimiser starts anew from the last good point.
RESTART = 10
NAMED = {"adam": lambda: optax.adam(1e-2), "lbfgs": optax.lbfgs}


class Carry(NamedTuple):
    """Where one start is: its point, the last good point with slope and loss, the step from there, the optimiser."""

    leaves: Leaves
    good: Leaves
    slope: Leaves
    worth: jax.Array
    change: Leaves
    scale: jax.Array
    bad: jax.Array
    whole: jax.Array
    state: Any


def descend(task: Task) -> None:
    """
    Gradient descent, one compiled program for all starts.

    A point whose loss, gradient or update is not finite is not taken: the step from the last good point is halved
    until it is. Steps then grow back to their full length, twice as long each time, so that momentum can turn;
    after ten such points in a row the optimiser starts anew, without its momentum, and so it does where a line
    search has led up. Bounds are kept by projection.

    Starts of first-order methods are one batch, unless `brainloom.fit.batching` knows better. With a line search they
    run one after the other inside of the program, as a batch would wait for its longest line search, and the loss
    that the line search has seen last is not computed again.

    Parameters
    ----------
    task : Task
        Its optimizer is an optax transformation, an optimiser of ``braintools.optim``, ``"adam"`` (rate 0.01, the
        default), ``"lbfgs"`` (zoom line search), or a sequence of (optimizer, steps): each stage begins at the best
        point of the one before. A step is one evaluation of loss and gradient, or one line search.
    """
    stages = _stages(task.optimizer, task.n_steps, task.steps)
    saved = task.checkpoint.load()
    if saved is not None:
        for k, record in enumerate(task.records):
            head = f"record_{k}_"
            record.restore({name.removeprefix(head): x for name, x in saved.items() if name.startswith(head)})
    current, horizon = 0 if saved is None else int(saved["stage"]), Horizon()
    for number, (optimizer, n_steps) in enumerate(stages[current:], current):
        resumed = saved if number == current else None
        origin = _stack(task.starts)
        if resumed is not None:
            origin = [_as(resumed[f"origin_{k}"], like) for k, like in enumerate(origin)]
        elif number > 0:
            origin = _stack([_best(*pair) for pair in zip(task.records, task.starts, strict=True)])
        if _run(task, _stage(task, optimizer, origin), number, n_steps, resumed, horizon):
            break
    total = sum(n for _, n in stages)
    off = any(record.called_off for record in task.records)
    for record in task.records:
        record.converged = record.converged or record.settled()
        record.message = record.message or ("ended by a callback" if off else f"made {total} steps")


def _run(
    task: Task,
    stage: Stage,
    number: int,
    n_steps: int,
    saved: dict[str, np.ndarray] | None,
    horizon: Horizon,
) -> bool:
    """One stage; whether the fit is to end with it."""
    records = task.records
    if saved is None:
        carry, done, first = stage.start, 0, None
        for record in records:
            if not record.ended:
                record.converged, record.message = False, ""
        live = np.array([not record.ended for record in records])
        begun = live.copy()
    else:
        done, live, begun = int(saved["done"]), saved["live"], saved["begun"]
        carry, first = stage.resumed(task, saved, begun)
    stage.catch_up(done)
    try:
        while done < n_steps and live.any():
            before = [np.asarray(leaf) for leaf in carry.leaves]
            carry, seen = stage.step(carry, stage.rates(), task.loss.fixed, live)
            *numbers, aux = seen
            value, usable, promise, change, inner = map(np.asarray, numbers)
            begins, first = first is None, stage.fingerprint(carry, seen) if first is None else first
            done, called_off = done + 1, False
            for k in np.flatnonzero(live):
                record, here = records[k], [leaf[k] for leaf in before]
                record.n_steps += 1
                record.n_inner += int(inner[k])
                own = UNKNOWN if aux is None else jax.tree.map(lambda x: x[0], aux)
                # callbacks hear no more of a fit that they have ended
                over = record.add(here, value[k], usable[k], own, silent=called_off)
                if usable[k] and record.promised(float(promise[k]), float(change[k]), float(value[k])):
                    factor = abs(promise[k]) / max(abs(change[k]), np.finfo(float).tiny)
                    horizon.warn([leaf[k] for leaf in carry.slope], factor)
                if not over and stage.searching and record.still():
                    over = record.converged = True
                    record.message = "the loss does not fall any more"
                live[k] = not over
                called_off |= record.called_off
            if begins and number == 0 and not called_off:
                _look_ahead(task, stage, before, value, np.flatnonzero(live & usable), carry.slope, horizon)
            stage.schedule()
            if called_off or task.checkpoint.due(done) or done == n_steps or not live.any():
                about = {"stage": number, "done": done, "live": live, "begun": begun}
                _save(task, stage.start.leaves, carry, about, first)
            if called_off:
                return True
    finally:
        stage.put_back()
    return all(record.ended for record in records)


def _look_ahead(
    task: Task, stage: Stage, at: Any, value: np.ndarray, which: np.ndarray, slope: Leaves, horizon: Horizon
) -> None:
    """Does the gradient at the starts explode? Asked by the compiled step itself, which leaves no trace."""

    def evaluate(points: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        leaves, live = [np.array(leaf) for leaf in at], np.isin(np.arange(len(value)), which)
        for k, point in zip(which, points, strict=True):
            for leaf, new in zip(leaves, point, strict=True):
                leaf[k] = new
        there = stage.start._replace(leaves=[jnp.asarray(x) for x in leaves])
        seen = stage.step(there, stage.rates(), task.loss.fixed, live)[1]
        return np.asarray(seen[0])[which], np.asarray(seen[1])[which]

    points = [[leaf[k] for leaf in at] for k in which]
    slopes = [[np.asarray(leaf[k]) for leaf in slope] for k in which]
    horizon.at_start(points, value[which], slopes, task.scales, (task.low, task.high), evaluate)


def _stage(task: Task, optimizer: Any, starts: Leaves) -> Stage:
    """A stage at its starts; one that was compiled for the same loss before, if there is one."""
    bounds = b"".join(np.asarray(x).tobytes() for x in (*task.low, *task.high))
    about = ("stage", optimizer, len(task.records), task.clip, bounds)
    stage = task.loss.compiled(about, lambda: Stage(task, optimizer, starts))
    stage.begin(starts)
    return stage


class Stage:
    """
    One optimiser with its compiled step.

    Parameters
    ----------
    task : Task
    optimizer : Any
    starts : list of (start, ...) arrays
    """

    def __init__(self, task: Task, optimizer: Any, starts: Leaves) -> None:
        self._scheduler = getattr(optimizer, "lr_scheduler", None)
        transform = _transformation(optimizer)
        if task.clip is not None:
            transform = optax.with_extra_args_support(
                optax.chain(optax.clip_by_global_norm(task.clip), transform)
            )
        loss, n = task.loss, len(task.records)
        one = [leaf[0] for leaf in starts]
        fresh = transform.init(one)
        number = jnp.zeros((), jnp.result_type(float))
        update = brainstate.transform.StatefulFunction(
            lambda grads, state, leaves, fixed, value: transform.update(
                grads,
                state,
                leaves,
                value=value,
                grad=grads,
                value_fn=lambda at: loss(_like(one, at), fixed)[0],
            )
        )
        like = (one, fresh, one, loss.fixed, number)
        update.make_jaxpr(*like)
        self._knobs = update.get_states(*like)  # learning rates that a scheduler moves
        low, high = (
            [jnp.asarray(x, leaf.dtype) for x, leaf in zip(side, one, strict=True)]
            for side in (task.low, task.high)
        )
        slope_of = jax.value_and_grad(loss, has_aux=True)
        self.searching = all(optax.tree.get(like[1], name) is not None for name in ("value", "grad"))
        in_turn = self.searching or (n > 1 and runs_in_turn(loss, one, loss.fixed))
        keep_aux = n == 1 and loss.has_aux and not self.searching

        def evaluated(carry: Carry, fixed: Any) -> tuple:
            if not self.searching:
                (value, aux), grads = slope_of(carry.leaves, fixed)
                return value, grads, aux if keep_aux else None
            value = optax.tree.get(carry.state, "value").astype(number.dtype)
            grads = optax.tree.get(carry.state, "grad")
            known = carry.whole & _all_finite((value, grads))
            again = lambda: (lambda found: (found[0][0], found[1]))(slope_of(carry.leaves, fixed))  # noqa: E731
            return *jax.lax.cond(known, lambda: (value, grads), again), None

        def step(carry: Carry, live: jax.Array, rates: Any, fixed: Any) -> tuple:
            value, grads, aux = evaluated(carry, fixed)
            finite = _all_finite((value, grads))
            # without curvature conditions, the direction of a quasi-Newton method may lead up
            rose = finite & (value > carry.worth) if self.searching else jnp.asarray(False)
            anew = rose | (~finite & ((carry.bad + 1) % RESTART == 0))
            given = _where(
                anew,
                (carry.slope, transform.init(carry.good), carry.good, carry.worth),
                (grads, carry.state, carry.leaves, value),
            )
            new, after = update.jaxpr_call(rates, *given[:3], fixed, given[3])[1]
            new, after = _like(one, new), _like(fresh, after)
            fine = _all_finite(new)
            usable = finite & fine
            good, slope, worth = _where(
                usable & ~rose, (carry.leaves, grads, value), (carry.good, carry.slope, carry.worth)
            )
            change, state = _where(
                (usable & ~rose) | (anew & fine), (new, after), (carry.change, carry.state)
            )
            scale = jnp.where(usable, jnp.minimum(1.0, 2.0 * carry.scale), 0.5 * carry.scale)
            aim = optax.apply_updates(good, jax.tree.map(lambda x: scale.astype(x.dtype) * x, change))
            moved = jax.tree.map(jnp.clip, aim, low, high)
            same = jnp.all(jnp.stack([jnp.all(a == b) for a, b in zip(moved, aim, strict=True)]))
            promise = sum(
                jnp.sum(s * (a - b)) for s, a, b in zip(carry.slope, carry.leaves, carry.good, strict=True)
            )
            inner = jnp.asarray(0)
            if self.searching:
                steps = optax.tree.get(after, "num_linesearch_steps")
                # the last of them is the evaluation that the next step begins with
                inner = jnp.where(
                    usable, jnp.maximum(jnp.asarray(1 if steps is None else steps, int) - 1, 0), 0
                )
            bad = jnp.where(usable, 0, carry.bad + 1)
            onward = Carry(moved, good, slope, worth, change, scale, bad, same & (scale == 1.0), state)
            return onward, (value, usable, promise, value - carry.worth, inner, aux)

        def only_live(carry: Carry, live: jax.Array, rates: Any, fixed: Any) -> tuple:
            if not self.searching:
                return step(carry, live, rates, fixed)
            idle = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, carry, live, rates, fixed)[1]
            )
            return jax.lax.cond(live, lambda: step(carry, live, rates, fixed), lambda: (carry, idle))

        def program(carry: Carry, rates: Any, fixed: Any, live: jax.Array) -> tuple:
            if n == 1:
                found = step(jax.tree.map(lambda x: x[0], carry), live[0], rates, fixed)
                return jax.tree.map(lambda x: x[None], found)
            if in_turn:
                return jax.lax.map(lambda pair: only_live(pair[0], pair[1], rates, fixed), (carry, live))
            return jax.vmap(lambda one, alive: only_live(one, alive, rates, fixed))(carry, live)

        self.step = jax.jit(program)
        self._transform, self._dtype = transform, number.dtype

    def begin(self, starts: Leaves) -> None:
        """Go to starts, (start, ...) arrays."""
        self._before = self._scheduler.state_dict() if self._scheduler is not None else None
        n = len(starts[0])
        zeros = jax.tree.map(jnp.zeros_like, starts)
        size = jnp.ones(n, self._dtype)
        false = jnp.zeros(n, bool)
        states = jax.vmap(self._transform.init)(starts)
        self.start = Carry(
            starts, starts, zeros, jnp.inf * size, zeros, size, jnp.zeros(n, int), false, states
        )

    def rates(self) -> list[np.ndarray]:
        """Learning rates of this step."""
        return [jax.tree.map(_number, knob.value) for knob in self._knobs]

    def schedule(self) -> None:
        """Move learning rates by one step."""
        if self._scheduler is not None:
            self._scheduler.step()

    def catch_up(self, done: int) -> None:
        """Move learning rates to where they were when the fit was saved."""
        for _ in range(done):
            self.schedule()

    def put_back(self) -> None:
        """Leave the scheduler as it was."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(self._before)

    @staticmethod
    def fingerprint(carry: Carry, seen: tuple) -> list[np.ndarray]:
        """The first step of this stage: another loss or optimiser gives other numbers."""
        return [np.asarray(x) for x in (*carry.leaves, seen[0])]

    def resumed(
        self, task: Task, saved: dict[str, np.ndarray], begun: np.ndarray
    ) -> tuple[Carry, list[np.ndarray]]:
        """Where a fit was saved, if it is this one."""
        first = self.fingerprint(*self.step(self.start, self.rates(), task.loss.fixed, begun))
        for k, value in enumerate(first):
            if not np.array_equal(value, saved[f"first_{k}"], equal_nan=True):
                raise task.checkpoint.foreign("the loss or the optimiser gives other numbers")
        like, structure = jax.tree.flatten(self.start)
        return jax.tree.unflatten(structure, [_as(saved[f"carry_{k}"], x) for k, x in enumerate(like)]), first


def _save(task: Task, origin: Leaves, carry: Carry, about: dict[str, Any], first: list[np.ndarray]) -> None:
    if task.checkpoint.path is None:
        return
    arrays = {name: np.asarray(value) for name, value in about.items()}
    arrays |= {f"origin_{k}": np.asarray(leaf) for k, leaf in enumerate(origin)}
    arrays |= {f"first_{k}": value for k, value in enumerate(first)}
    arrays |= {f"carry_{k}": plain_array(x) for k, x in enumerate(jax.tree.leaves(carry))}
    for k, record in enumerate(task.records):
        arrays |= {f"record_{k}_{name}": value for name, value in record.state().items()}
    task.checkpoint.save(arrays)


def _best(record: Record, start: Leaves) -> Leaves:
    return [jnp.asarray(leaf, old.dtype) for leaf, old in zip(record.best[0] or start, start, strict=True)]


def _stack(starts: list[Leaves]) -> Leaves:
    return [jnp.stack(leaves) for leaves in zip(*starts, strict=True)]


def _as(value: np.ndarray, like: jax.Array) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(value))
    return jnp.asarray(value, like.dtype)


def _like(wanted: Any, found: Any) -> Any:
    """Line searches of optax widen types."""
    return jax.tree.map(lambda a, b: b.astype(jnp.result_type(a)), wanted, found)


def _where(which: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(partial(jnp.where, which), one, other)


def _stages(optimizer: Any, n_steps: int | None, default: int) -> list[tuple[Any, int]]:
    if not isinstance(optimizer, Sequence) or isinstance(optimizer, (str, optax.GradientTransformation)):
        return [(optimizer, default)]
    if n_steps is not None:
        raise ValueError("the stages of the optimizer say their own numbers of steps; leave n_steps out")
    for one in optimizer:
        if not isinstance(one, tuple) or len(one) != 2 or not isinstance(one[1], int) or one[1] < 1:
            raise TypeError(f"a stage is (optimizer, number of steps), not {one!r}")
    return list(optimizer)


def _transformation(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    if isinstance(optimizer, str) and optimizer in NAMED:
        optimizer = NAMED[optimizer]()
    found = optax.adam(1e-2) if optimizer is None else getattr(optimizer, "tx", optimizer)
    if not isinstance(found, optax.GradientTransformation):
        raise TypeError(
            "backend 'grad' takes an optax transformation, an optimiser of braintools.optim, 'adam', 'lbfgs', or "
            f"a list of (optimizer, steps), not {type(optimizer).__name__} {optimizer!r}"
        )
    if len(getattr(optimizer, "param_groups", ())) > 1:
        raise TypeError("the optimiser has parameter groups; use optax.multi_transform for several rates")
    return optax.with_extra_args_support(found)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _number(x: Any) -> np.ndarray:
    """Without jax's weak type, which would compile the program twice."""
    return np.asarray(x, np.result_type(x) if np.ndim(x) else jnp.result_type(float))
