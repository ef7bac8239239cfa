"""
Run and lower brainstate modules that brainloom does not know: any object with ``init_state`` and ``update``.

Their parameters and states are found by brainstate's graph; ``update`` is traced once and becomes a pure step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import BrainloomError
from brainloom.trajectories import Trajectories


class ModuleStep(NamedTuple):
    """
    A module as pure functions.

    Attributes
    ----------
    step : ``step(params, state, inputs, t, i) -> (state, outputs)``
        `inputs` is the tuple of arguments of ``update``; outputs are ``output``, what it returns, and what was
        asked for.
    params : dict
        Trainable values, unconstrained, by dotted path.
    state : dict
        Values of all other state variables, by dotted path.
    """

    step: Callable[..., tuple[dict, Any]]
    params: dict[str, Any]
    state: dict[str, Any]


class UnnamedNoiseError(BrainloomError, ValueError):
    """A module draws random numbers where they cannot be controlled."""


def lower_module(
    model: Any, dt: Any, measure: Callable[[Any, Any], Any] | None = None, batch_size: int | None = None
) -> ModuleStep:
    """
    Turn a module into a pure step.

    Parameters
    ----------
    model : brainstate.nn.Module
    dt : Quantity or number
        Put into ``brainstate.environ`` for ``update``.
    measure : callable, optional
        ``measure(model, returned)``: what is read after each step; what ``update`` returned by default.
    batch_size : int, optional

    Returns
    -------
    ModuleStep
    """
    with brainstate.environ.context(dt=dt):
        if batch_size is None:
            brainstate.nn.init_all_states(model)
        else:
            brainstate.nn.init_all_states(model, batch_size)
    graph, params, state = brainstate.graph.treefy_split(model, brainstate.ParamState, ...)
    params_tree, state_tree = jax.tree.structure(params), jax.tree.structure(state)
    params_names, state_names = _paths(params), _paths(state)

    def step(params: Mapping, state: Mapping, inputs: tuple, t: Any, i: Any) -> tuple[dict, Any]:
        merged = brainstate.graph.treefy_merge(
            graph,
            jax.tree.unflatten(params_tree, [params[name] for name in params_names]),
            jax.tree.unflatten(state_tree, [state[name] for name in state_names]),
        )
        with brainstate.environ.context(dt=dt, t=t, i=i):
            returned = merged.update(*inputs)
            found = returned if measure is None else measure(merged, returned)
        _, _, new = brainstate.graph.treefy_split(merged, brainstate.ParamState, ...)
        return dict(zip(state_names, jax.tree.leaves(new), strict=True)), found

    # read through the states themselves: brainstate's gradients must see that they are used
    seen = [jax.tree.leaves(one.value) for one in _in_order(model, params_names)]
    return ModuleStep(
        step,
        dict(zip(params_names, [leaf for leaves in seen for leaf in leaves], strict=True)),
        dict(zip(state_names, jax.tree.leaves(state), strict=True)),
    )


def _paths(tree: Any) -> list[str]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        ".".join(str(getattr(part, "key", getattr(part, "name", part))) for part in path) for path, _ in flat
    ]


def _in_order(model: Any, names: list[str]) -> list[brainstate.State]:
    """Trainable states in the order of their flattened values."""
    by_path = {".".join(map(str, path)): one for path, one in model.states(brainstate.ParamState).items()}
    owners = dict.fromkeys(next(path for path in by_path if name.startswith(f"{path}.")) for name in names)
    return [by_path[path] for path in owners]


def run_module(
    model: Any,
    dt: Any,
    duration: Any,
    *,
    inputs: Any,
    monitors: Any,
    transient: Any,
    sample_every: Any,
    batch_size: int | None,
    remat: bool,
) -> Trajectories:
    """
    As `brainloom.simulate.Simulator.run`, for any module; see there.

    Monitors are attributes that are state variables (``"r"``, ``"node.r"``), functions of the module, or a dict of
    either. Noise must not be drawn from ``brainstate.random`` inside ``update``.
    """
    n_steps = _steps(duration, dt, "duration")
    every = 1 if sample_every is None else _steps(sample_every, dt, "sample_every")
    n_transient = 0 if transient is None else _steps(transient, dt, "transient", least=0)
    if n_transient >= n_steps:
        raise ValueError(f"transient ({n_transient} steps) must be shorter than the run ({n_steps} steps)")
    arguments, rows = _arguments(inputs, n_steps)
    low = lower_module(model, dt, _measure(monitors), batch_size)
    n_samples = (n_steps - n_transient) // every
    used = n_transient + n_samples * every

    def one(state: dict, row: Any) -> tuple[dict, Any]:
        i, some = row
        t = i * dt
        given = arguments(i, t) if some is None else (some,)
        return low.step(low.params, state, given, t, i)

    def sample(state: dict, some: Any) -> tuple[dict, Any]:
        state, found = jax.lax.scan(one, state, some)
        return state, jax.tree.map(lambda x: x[-1], found)

    index = jnp.arange(used, dtype=jnp.int32)
    rows = None if rows is None else rows[:used]
    before, after = (
        jax.tree.map(lambda x, s=s: x[s], (index, rows))
        for s in (slice(0, n_transient), slice(n_transient, None))
    )
    after = jax.tree.map(lambda x: x.reshape(n_samples, every, *x.shape[1:]), after)
    keep = jax.checkpoint if remat and every > 1 else (lambda f: f)

    def both(state: dict) -> tuple[dict, Any]:
        if n_transient:
            state, _ = jax.lax.scan(lambda s, r: (one(s, r)[0], None), state, before)
        return jax.lax.scan(keep(sample), state, after)

    try:
        _, found = jax.jit(both)(low.state)
    except brainstate.TraceContextError as error:
        raise UnnamedNoiseError(
            f"{type(model).__name__} writes a state, or draws from brainstate.random, that is not its own; give it a "
            "state variable for that, or build it on brainloom.models.NeuralMass, which takes noise as an argument"
        ) from error
    result = found if isinstance(found, dict) else {"output": found}
    times = (n_transient + every * np.arange(1, n_samples + 1)) * dt
    finite = jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), jax.tree.leaves(result))
    values = {**result, "ts": times, "diverged": ~jnp.all(jnp.stack(finite))}
    return Trajectories(values, {k: str(v.unit) for k, v in values.items() if isinstance(v, u.Quantity)})


def _steps(value: Any, dt: Any, name: str, *, least: int = 1) -> int:
    if isinstance(value, (int, np.integer)) and name != "duration":
        return int(value)
    ratio = value / dt
    steps = float(ratio.to_decimal() if isinstance(ratio, u.Quantity) else ratio)
    if round(steps) < least:
        raise ValueError(f"{name} is {value}, which is shorter than {least} step")
    return round(steps)


def _arguments(inputs: Any, n_steps: int) -> tuple[Any, Any]:
    """The arguments of ``update`` at a step: a function of step and time, or rows."""
    if inputs is None:
        return (lambda i, t: ()), None
    if callable(inputs):

        def given(i: Any, t: Any) -> tuple:
            found = inputs(i, t)
            return found if isinstance(found, tuple) else (found,)

        return given, None
    rows = inputs if isinstance(inputs, u.Quantity) else jnp.asarray(inputs)
    if rows.shape[0] != n_steps:
        raise ValueError(f"inputs have {rows.shape[0]} rows but the run has {n_steps} steps")
    return None, rows


def _measure(monitors: Any) -> Callable[[Any, Any], Any]:
    if monitors is None:
        return lambda model, returned: {"output": returned}
    if callable(monitors):
        return lambda model, returned: {"output": monitors(model)}
    if isinstance(monitors, str):
        monitors = [monitors]
    given = dict(monitors) if isinstance(monitors, Mapping) else {name: name for name in monitors}

    def read(model: Any, what: Any) -> Any:
        if callable(what):
            return what(model)
        found = model
        for part in what.split("."):
            if not hasattr(found, part):
                raise ValueError(f"monitor {what!r} is not an attribute of {type(model).__name__}")
            found = getattr(found, part)
        return found.value if isinstance(found, brainstate.State) else found

    return lambda model, returned: {name: read(model, what) for name, what in given.items()}
