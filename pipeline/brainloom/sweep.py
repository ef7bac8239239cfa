"""Sweeps: a simulation, or any function of a model, at many values of its parameters, in one compiled program."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.base import NeuralMass

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.network import Network
from brainloom.simulate import Simulator, _key_of_brainstate
from brainloom.substitute import Place, place, substituted
from brainloom.sweep_result import SweepResult, sweep_dataset
from brainloom.trajectories import Trajectories, _flat

# Points side by side where memory allows more: beyond, nothing is gained on a CPU and the progress bar stands still.
MOST = {"cpu": 64}
MOST_ELSEWHERE = 1024


class Sweep:
    """
    Run a model at many values of its parameters.

    Parameters
    ----------
    what : Simulator or callable
        A simulator, which `run` runs; or ``f(model) -> array, quantity or dict of them``, a function of the model
        that jax can trace, such as one that builds a `Simulator` and returns a feature of its run. With a second
        argument, ``f(model, key)``, it gets a random key.
    parameters : mapping of str to array or Quantity
        Dotted name to values, the first axis over points: ``"k"``, ``"weights"`` (one matrix a point), ``"speed"``,
        ``"delay"``, ``"coupling.scale"`` of a network; ``"node.a"`` of its regions; ``"a"``, ``"noise_x"``,
        ``"noise_x.sigma"``, ``"init_x"`` of a model; ``"observe.bold.tau"`` of an observer of the run. Any number can
        be swept, a ``Param`` or not; one that is used in several places changes everywhere. Plain numbers are in
        the declared unit.
    model : model, network or module, optional
        For a function: its argument.
    measure : callable, optional
        For a simulator: ``measure(run) -> array, quantity or dict``: what is kept of each run.
    mode : {"grid", "zip"}
        All combinations of values, or the first with the first, the second with the second, and so on.
    batch : int, optional
        Points side by side; found from `memory` if not given.
    memory : float
        Bytes that the compiled program may take. It is asked how much it needs.

    Raises
    ------
    ValueError
        Unknown names, values that do not fit each other or their parameter.
    UnitError
        Values of another dimension.

    Examples
    --------
    >>> import numpy as np
    >>> from brainloom.models import HopfStep
    >>> net = Network(HopfStep(2, a=-0.1, init_x=1.0), np.ones((2, 2)), k=0.1)
    >>> sweep = Sweep(Simulator(net, 0.1), {"k": [0.0, 0.1, 0.2], "node.a": [-0.2, -0.1]})
    >>> sweep.run(5.0, monitors="x").data["x"].dims
    ('k', 'node.a', 'time', 'region')
    """

    def __init__(
        self,
        what: Any,
        parameters: Mapping[str, Any],
        *,
        model: Any = None,
        measure: Callable[[Any], Any] | None = None,
        mode: str = "grid",
        batch: int | None = None,
        memory: float = 1e9,
    ) -> None:
        self.simulator = what if isinstance(what, Simulator) else None
        if self.simulator is None and not callable(what):
            raise TypeError(
                f"a sweep runs a Simulator or a function of the model, not a {type(what).__name__}"
            )
        if (self.simulator is None) == (model is None):
            raise ValueError("a function needs model=, a Simulator has its own; give one of the two")
        if measure is not None and self.simulator is None:
            raise ValueError("measure belongs to a Simulator; a function returns what is kept itself")
        if mode not in ("grid", "zip"):
            raise ValueError(f"mode is {mode!r}; it must be 'grid' or 'zip'")
        if batch is not None and (not isinstance(batch, (int, np.integer)) or batch < 1):
            raise ValueError(f"batch is {batch}; it is a number of points, at least 1")
        if not memory > 0:
            raise ValueError(f"memory is {memory}; it is a number of bytes")
        if not parameters:
            raise ValueError("there is nothing to sweep; name parameters and their values")
        self.function, self.measure = what, measure
        self.model = what.model if self.simulator is not None else model
        self.parameters, self.mode = dict(parameters), mode
        self.batch, self.memory = batch, float(memory)
        # those of observers are known when it runs
        own = {name: values for name, values in self.parameters.items() if not name.startswith("observe.")}
        found = [place(self.model, name, values) for name, values in own.items()]
        if mode == "zip" and len({len(one.values) for one in found}) > 1:
            told = ", ".join(f"{one.name} has {len(one.values)}" for one in found)
            raise ValueError(f"mode 'zip' needs as many values of each parameter: {told}")

    def run(
        self,
        duration: Any = None,
        *,
        key: jax.Array | None = None,
        keys: str = "common",
        progress: bool | None = None,
        **options: Any,
    ) -> SweepResult:
        """
        Run all points.

        Parameters
        ----------
        duration : number or Quantity
            For a simulator, see `Simulator.run`.
        key : jax.random key, optional
            For noise and random starts; drawn from ``brainstate.random`` if not given.
        keys : {"common", "independent"}
            The same random numbers at every point, so that differences come from the parameters alone; or a key
            of its own for each, ``fold_in(key, number of the point)``.
        progress : bool, optional
            Show a progress bar; by default for sweeps that take more than about ten seconds.
        **options
            For a simulator: other arguments of `Simulator.run`.

        Returns
        -------
        SweepResult
            Points that diverged are flagged, with a warning; the others are not affected.

        Raises
        ------
        ValueError
            See `Sweep`; a result without shape or name.
        """
        if keys not in ("common", "independent"):
            raise ValueError(f"keys is {keys!r}; it must be 'common' or 'independent'")
        if self.simulator is None and (duration is not None or options):
            given = ", ".join(["duration"] * (duration is not None) + list(options))
            raise ValueError(f"{given} belongs to a Simulator; the function decides about its runs itself")
        if self.simulator is not None and duration is None:
            raise ValueError("duration is missing; a Simulator runs for some time")
        if not options.get("init_states", True):
            raise ValueError("a sweep starts each point anew; leave init_states out")
        observers = tuple(options.pop("observe", ()))
        places = [place(self.model, name, values, observers) for name, values in self.parameters.items()]
        rows, shape = _points(places, self.mode)
        n = len(rows[0])
        own_keys = _key_of_brainstate() if key is None else key
        if keys == "independent":
            own_keys = jax.vmap(lambda k: jax.random.fold_in(own_keys, k))(jnp.arange(n))
        point = self._point(places, observers, duration, options)
        with _as_it_was(self.model, observers):
            example = [jnp.asarray(row[0]) for row in rows]
            first_key = own_keys[0] if keys == "independent" else own_keys
            traced, kept = jax.make_jaxpr(point, return_shape=True)(example, first_key)
        _warn_of_strangers(places, traced.jaxpr)
        program, batch, memory = self._compiled(traced, rows, own_keys, keys == "independent", kept)
        found = _all_chunks(
            program, rows, own_keys if keys == "independent" else None, own_keys, batch, progress
        )
        found = jax.tree.unflatten(jax.tree.structure(kept), found)
        lost = np.asarray(found.pop("diverged"))
        if lost.any():
            which = ", ".join(str(k) for k in np.flatnonzero(lost)[:8])
            warnings.warn(
                f"{int(lost.sum())} of {n} points diverged (numbers {which}); their results are flagged",
                stacklevel=2,
            )
        data = sweep_dataset(found, lost, places, self.mode, shape, _n_regions(self.model))
        return SweepResult(data, tuple(self.parameters), batch, memory)

    def _point(self, places: list[Place], observers: tuple, duration: Any, options: dict) -> Callable:
        """One point as a pure function of values and a key: results by name, and whether they are finite."""
        takes_key = self.simulator is None and _takes_key(self.function)

        def point(values: list[Any], key: Any) -> Any:
            model, watched = substituted(self.model, dict(zip(places, values, strict=True)), observers)
            if self.simulator is None:
                found = self.function(model, key) if takes_key else self.function(model)
            else:
                simulator = Simulator(model, self.simulator.dt, method=self.simulator.method)
                known = isinstance(model, (NeuralMass, Network))
                extra = {"observe": watched, "key": key, "check": False} if known else {}
                found = simulator.run(duration, **options, **extra)
            lost = found.pop("diverged", False) if isinstance(found, Trajectories) else False
            found = found if self.measure is None else self.measure(found)
            found = _by_name(found)
            leaves = [x for x in jax.tree.leaves(found) if jnp.issubdtype(x.dtype, jnp.inexact)]
            finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves])) if leaves else True
            found["diverged"] = jnp.any(jnp.asarray(lost)) | ~jnp.asarray(finite)
            return found

        return point

    def _compiled(self, traced: Any, rows: list, keys: Any, each: bool, kept: Any) -> tuple[Any, int, int]:
        """The program for a batch of points that fits into memory, the batch, and the bytes it takes."""
        n = len(rows[0])
        out = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))
        most = MOST.get(jax.default_backend(), MOST_ELSEWHERE)
        batch = self.batch or max(1, min(most, int(self.memory // max(2 * out, 1))))
        while True:
            batch = _even(n, min(batch, n))
            program = _program(traced, rows, keys, each, batch)
            memory = _memory(program)
            if self.batch or memory <= self.memory or batch == 1:
                break
            batch = max(1, min(batch - 1, int(0.9 * batch * self.memory / memory)))
        if memory > self.memory:
            warnings.warn(
                f"{batch} point{'s' * (batch > 1)} side by side take {memory / 1e6:.0f} MB, more than memory="
                f"{self.memory / 1e6:.0f} MB; "
                + (
                    "give a smaller batch"
                    if batch > 1
                    else "keep fewer samples, with sample_every or measure"
                ),
                stacklevel=3,
            )
        return program, batch, memory


def _points(places: list[Place], mode: str) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Values at every point, and the shape of the grid."""
    lengths = tuple(len(one.values) for one in places)
    if mode == "zip":
        if len(set(lengths)) > 1:
            told = ", ".join(f"{one.name} has {len(one.values)}" for one in places)
            raise ValueError(f"mode 'zip' needs as many values of each parameter: {told}")
        return [one.values for one in places], lengths[:1]
    at = np.unravel_index(np.arange(int(np.prod(lengths))), lengths)
    return [one.values[index] for one, index in zip(places, at, strict=True)], lengths


def _program(traced: Any, rows: list, keys: Any, each: bool, batch: int) -> Any:
    flat = jax.extend.core.jaxpr_as_fun(traced)
    mapped = jax.vmap(flat, in_axes=(*[0] * len(rows), 0 if each else None), axis_size=batch)
    like = [jax.ShapeDtypeStruct((batch, *row.shape[1:]), jnp.result_type(float)) for row in rows]
    key = jax.ShapeDtypeStruct((batch, *keys.shape[1:]) if each else keys.shape, keys.dtype)
    return jax.jit(mapped).lower(*like, key).compile()


def _memory(program: Any) -> int:
    """Bytes that a compiled program takes; 0 where the backend does not tell."""
    try:
        found = program.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return 0
    if found is None:
        return 0
    return int(found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes)


def _even(n: int, batch: int) -> int:
    """The smallest batch that needs no more calls."""
    calls = -(-n // batch)
    return -(-n // calls)


def _all_chunks(
    program: Any, rows: list, each: Any, common: Any, batch: int, progress: bool | None
) -> list[np.ndarray]:
    """Results of all points; the last chunk is filled up with its last point."""
    n = len(rows[0])
    parts: list[list[np.ndarray]] = []
    bar = None
    if progress is not False:
        from tqdm import tqdm

        bar = tqdm(total=n, unit="point", leave=False, delay=0.0 if progress else 10.0)
    for start in range(0, n, batch):
        at = np.minimum(np.arange(start, start + batch), n - 1)
        here = [jnp.asarray(row[at], jnp.result_type(float)) for row in rows]
        found = program(*here, common if each is None else each[at])
        real = min(batch, n - start)
        parts.append([np.asarray(x[:real]) for x in found])
        if bar is not None:
            bar.update(real)
    if bar is not None:
        bar.close()
    return [np.concatenate(some) for some in zip(*parts, strict=True)]


def _by_name(found: Any) -> dict[str, Any]:
    """Results as a dict; arrays and quantities alone are called ``output``."""
    if isinstance(found, Trajectories):
        return Trajectories(found, found.units, found.dims)
    named = dict(_flat(dict(found))) if isinstance(found, Mapping) else {"output": found}
    for name, value in named.items():
        if not isinstance(value, (u.Quantity, jax.Array, np.ndarray, np.number, int, float, bool)):
            raise ValueError(
                f"the result {name} is a {type(value).__name__}; return an array, a quantity or a dict of them"
            )
    return jax.tree.map(jnp.asarray, named)


def _n_regions(model: Any) -> int | None:
    """Number of regions of the first brain model in a module."""
    nodes = [getattr(model, "node", model), *model.nodes().values()]
    return next((one.varshape[0] for one in nodes if isinstance(one, NeuralMass)), None)


def _takes_key(function: Callable) -> bool:
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [
        p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(needed) == 2


class _as_it_was:
    """Undo what tracing leaves in modules, such as states of simulations that hold traced values."""

    def __init__(self, model: Any, observers: tuple) -> None:
        nodes = [node for root in (model, *observers) for node in root.nodes().values()]
        self.kept = [(node, dict(vars(node))) for node in nodes]

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        for node, before in self.kept:
            vars(node).clear()
            vars(node).update(before)


def _warn_of_strangers(places: list[Place], jaxpr: Any) -> None:
    """Tell of parameters that nothing was computed from."""
    used = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    unused = [one.name for one, v in zip(places, jaxpr.invars, strict=False) if id(v) not in used]
    if unused:
        warnings.warn(f"the results do not depend on {', '.join(unused)}", stacklevel=3)


__all__ = ["Sweep", "SweepResult"]
