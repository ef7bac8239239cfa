"""Checkpoints of long runs: the same gradients, and memory that does not grow with the steps."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep

# isort: split
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import run_plan
from brainloom.network import Network
from brainloom.simulate import Simulator

DT = 0.1
Param, SigmoidT = brainstate.nn.Param, brainstate.nn.SigmoidT


@pytest.mark.parametrize("delayed", [False, True])
def test_checkpoints_change_nothing(delayed):
    """A transient of whole pages, then pages and a part of one; reverse mode over the states of brainstate."""
    rng = np.random.default_rng(0)
    weights, distance = rng.uniform(0.2, 0.9, (3, 3)), rng.uniform(10.0, 25.0, (3, 3))
    speed = Param(jnp.asarray(10.0), t=SigmoidT(8.0, 12.5))
    options = {"distance": distance, "speed": speed} if delayed else {}
    gain = Param(jnp.asarray(0.4), t=SigmoidT(0.0, 1.0))
    node = HopfStep(3, a=np.array([0.2, -0.1, 0.1]), w=np.array([0.5, 0.8, 0.6]), init_x=0.4, noise_x=0.05)
    model = Network(node, Param(jnp.asarray(weights)), k=gain, coupled_var="x", **options)
    params = model.states(brainstate.ParamState)
    assert len(params) == (3 if delayed else 2)
    simulator = Simulator(model, DT, method="euler")

    duration = 300.0 if delayed else 333.0

    def loss(remat):
        found = simulator.run(
            duration,
            transient=100.0,
            sample_every=1.0,
            monitors=["x", "y"],
            key=jax.random.key(2),
            remat=remat,
        )
        return jnp.mean(jnp.tanh(3.0 * found["x"]) * found["y"]) + jnp.mean(found["x"] ** 2)

    kept, again = (
        brainstate.transform.grad(lambda remat=remat: loss(remat), params)() for remat in (False, True)
    )
    for path in kept:
        # the same operations, fused in another order
        size = np.abs(kept[path]).max()
        np.testing.assert_allclose(again[path], kept[path], rtol=0, atol=1e-9 * size, err_msg=str(path))
        assert size > 1e-5, path


@pytest.mark.parametrize("delayed", [False, True])
def test_memory_of_a_gradient_grows_by_one_state_a_page(delayed):
    """Compiled for 80 regions, 15 000 and 60 000 steps; nothing is run."""
    n = 80
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.0, 1.0, (n, n)) / n
    options = {"distance": rng.uniform(10.0, 120.0, (n, n)), "speed": 10.0} if delayed else {}

    def needed(steps):
        def loss(k):
            node = HopfStep(n, a=-0.1, noise_x=0.01)
            model = Network(node, weights, k=k, coupled_var="x", **options)
            found = Simulator(model, DT).run(
                steps * DT, sample_every=100, key=jax.random.key(0), monitors="x"
            )
            return jnp.sum(found["x"] ** 2)

        compiled = jax.jit(jax.value_and_grad(loss)).lower(0.4).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = needed(15_000), needed(60_000)
    carry = 8 * n * (2 + (122 if delayed else 0))  # x, y and the history of x
    samples = 8 * n * 450  # kept, and their cotangents
    assert many - few < 1.2 * 45_000 / run_plan.PAGE * carry + 4 * samples
    assert many - few < 0.05 * 45_000 * carry  # all steps would need this many states
    assert many < 1e9
