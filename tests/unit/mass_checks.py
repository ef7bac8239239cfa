"""What every neural mass model is held against, given its right-hand side written again in numpy."""

from __future__ import annotations

from collections.abc import Callable

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import NeuralMass

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from brainloom import integrate

# ``reference(p, s, u) -> derivative`` on dictionaries of numpy arrays; `u` holds every port.
Reference = Callable[[dict, dict, dict], dict]


def random_point(model: type[NeuralMass], seed: int, params_shape: tuple, state_shape: tuple) -> tuple:
    """Parameters inside their bounds, states inside their spans and inputs of order 1, as numpy arrays."""
    rng = np.random.default_rng(seed)
    params = {p.name: rng.uniform(*p.bounds, params_shape) for p in model.PARAMETERS}
    state = {s.name: rng.uniform(*s.span, state_shape) for s in model.STATES}
    inputs = {p.name: rng.normal(0.0, 1.0, state_shape) for p in model.PORTS}
    return params, state, inputs


def check_rhs(model: type[NeuralMass], reference: Reference) -> None:
    """The equations, for batches of states and parameters per region; ports that get nothing are zero."""
    params, state, inputs = random_point(model, 1, (4,), (3, 4))
    node = model(4, **params)
    zero = dict.fromkeys(inputs, 0.0)
    for found, expected in (
        (node.derivative(state, 0.0, **inputs), reference(params, state, inputs)),
        (node.derivative(state), reference(params, state, zero)),
    ):
        assert set(found) == set(model.state_names())
        for name, value in found.items():
            assert value.shape == (3, 4), name
            # Terms may cancel: a rounding is relative to the largest derivative, not to each.
            size = np.abs(expected[name]).max()
            np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-13 * size, err_msg=name)


def check_one_by_one(model: type[NeuralMass]) -> None:
    """A batch of heterogeneous regions gives the numbers of single regions, compiled or not."""
    params, state, inputs = random_point(model, 2, (3,), (2, 3))
    found = model(3, **params).derivative(state, 0.0, **inputs)
    values = model(3, **params).parameter_values()
    compiled = jax.jit(model.rhs)(values, state, inputs, 0.0)
    for batch in range(2):
        for region in range(3):
            node = model(1, **{k: float(v[region]) for k, v in params.items()})
            pick = [{k: v[batch, region : region + 1] for k, v in x.items()} for x in (state, inputs)]
            alone = node.derivative(pick[0], 0.0, **pick[1])
            for name in found:
                # The order of operations is the same; compiled sums may be fused, to a rounding of their terms.
                size = np.abs(found[name]).max()
                np.testing.assert_array_equal(found[name][batch, region], alone[name][0])
                np.testing.assert_allclose(
                    compiled[name][batch, region], alone[name][0], rtol=1e-12, atol=1e-13 * size
                )


def check_gradients(model: type[NeuralMass], reference: Reference) -> None:
    """Derivatives in every parameter, state and port against central differences of the reference."""
    groups = random_point(model, 3, (6,), (6,))
    for which, names in enumerate(groups):
        for name in names:

            def moved(value: np.ndarray, which: int = which, name: str = name) -> list:
                return [group | {name: value} if k == which else group for k, group in enumerate(groups)]

            value = groups[which][name]
            step = 1e-4 * np.maximum(np.abs(value), 0.01)
            high, low = (reference(*moved(value + sign * step)) for sign in (1, -1))
            _, slope = jax.jvp(
                lambda v, moved=moved: model.rhs(*moved(v), 0.0),
                (jnp.asarray(value),),
                (jnp.ones_like(value),),
            )
            for state, found in slope.items():
                expected = (high[state] - low[state]) / (2.0 * step)
                # Truncation is of relative order step^2 (1e-8); cancellation adds the rounding of the
                # derivative, about 1e-16 of its size over the step.
                rounding = 1e-14 * np.abs(high[state]).max() / step.min()
                np.testing.assert_allclose(
                    found, expected, rtol=1e-6, atol=rounding, err_msg=f"{state} by {name}"
                )


def check_finite_float32(model: type[NeuralMass], stretch: float = 3.0) -> None:
    """
    Finite values and gradients in single precision over the fitting box and a stretched span of the states.

    All corners of box and span (a random part of them where there are too many), random points, and zeros of
    states and inputs. They lie along the region axis, so each model is evaluated once.
    """
    rng = np.random.default_rng(4)
    ranges = [p.bounds for p in model.PARAMETERS]
    for s in model.STATES:
        middle, half = np.mean(s.span), 0.5 * (s.span[1] - s.span[0])
        ranges.append((middle - stretch * half, middle + stretch * half))
    ranges += [(-10.0, 10.0)] * len(model.PORTS)
    low, high = np.array(ranges, np.float32).T
    count = len(ranges)
    if count <= 12:
        corners = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        corners = rng.integers(0, 2, (8192, count))
    points = np.concatenate([corners, rng.uniform(size=(2000, count))])
    points = (low + points * (high - low)).astype(np.float32)
    still = points[:1000].copy()
    still[:, len(model.PARAMETERS) :] = 0.0
    columns = iter(np.concatenate([points, still]).T)
    groups = [
        {d.name: jnp.asarray(next(columns)) for d in group}
        for group in (model.PARAMETERS, model.STATES, model.PORTS)
    ]

    def total(groups: list) -> tuple:
        slopes = model.rhs(*groups, 0.0)
        return sum(jnp.sum(x) for x in slopes.values()), slopes

    gradient, slopes = jax.grad(total, has_aux=True)(groups)
    for name, value in [*slopes.items(), *(pair for group in gradient for pair in group.items())]:
        assert value.dtype == np.float32 and np.isfinite(value).all(), name


def trajectory(node: NeuralMass, duration: float, dt: float, every: int = 1, **inputs: float) -> dict:
    """States of one region from the documented start by RK4, ``(time,)`` arrays every `every` steps."""
    params = node.parameter_values()
    ports = {k: jnp.asarray(v) for k, v in inputs.items()}

    @jax.jit
    def run(params: dict, start: dict) -> dict:
        def field(state: dict, t: float) -> dict:
            return node.rhs(params, state, ports, t)

        def step(index: int, state: dict) -> dict:
            return integrate.deterministic_step("rk4", field, state, 0.0, dt)

        def frame(state: dict, _: None) -> tuple:
            state = jax.lax.fori_loop(0, every, step, state)
            return state, state

        return jax.lax.scan(frame, start, None, round(duration / dt / every))[1]

    start = node.initial_values(key=jax.random.key(5))
    return {k: np.asarray(v[:, 0]) for k, v in run(params, start).items()}


def check_trajectory(
    model: type[NeuralMass], reference: Reference, duration: float, dt: float, rtol: float
) -> None:
    """From the documented start at the default parameters, against an adaptive method of order 8."""
    node = model(1)
    found = trajectory(node, duration, dt, round(duration / dt / 20))
    params = {p.name: float(p.default) for p in model.PARAMETERS}
    inputs = {p.name: 0.0 for p in model.PORTS}
    names = model.state_names()
    start = [float(v[0]) for v in node.initial_values(key=jax.random.key(5)).values()]

    def field(t: float, y: np.ndarray) -> list:
        slopes = reference(params, dict(zip(names, y, strict=True)), inputs)
        return [slopes[name] for name in names]

    times = duration * np.arange(1, 21) / 20
    exact = solve_ivp(field, (0.0, duration), start, "DOP853", times, rtol=1e-11, atol=1e-13)
    for index, name in enumerate(names):
        size = max(np.abs(exact.y[index]).max(), abs(start[index]))
        np.testing.assert_allclose(found[name], exact.y[index], rtol=0.0, atol=rtol * size, err_msg=name)


def jacobian(node: NeuralMass, state: dict) -> np.ndarray:
    """Jacobian of one region at a state."""
    params = node.parameter_values()
    found = jax.jacfwd(lambda s: node.rhs(params, s, {}, 0.0))({k: jnp.asarray(v) for k, v in state.items()})
    names = node.state_names()
    return np.array([[float(np.squeeze(found[i][j])) for j in names] for i in names])
