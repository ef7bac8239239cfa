"""Which losses are computed for all starts at once, and that it does not matter for the result."""

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brainstate.nn import Param

from brainloom import Fitter, HopfStep, Network, Simulator
from brainloom.fit import gradient
from brainloom.fit.batching import runs_in_turn

WEIGHTS = np.random.default_rng(0).uniform(0.1, 0.3, (4, 4))
DISTANCE = np.random.default_rng(1).uniform(10.0, 40.0, (4, 4))


def simulated(k, steps, **options):
    model = Network(HopfStep(4, a=-0.1, noise_x=0.01), WEIGHTS, k=k, coupled_var="x", **options)
    return jnp.mean(Simulator(model, 0.1).run(0.1 * steps, monitors="x", key=jax.random.key(0))["x"] ** 2)


def decomposed(k):
    return jnp.sum(jnp.linalg.eigh(k * (WEIGHTS + WEIGHTS.T))[0] ** 2)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators gain by every batch")
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda k: simulated(k, 400), False),
        (lambda k: simulated(k, 400) + decomposed(k), False),  # the simulation takes the time
        (lambda k: simulated(k, 400, distance=DISTANCE, speed=5.0), True),
        (decomposed, True),
        (lambda k: k**2, False),
    ],
)
def test_simulations_are_batched_and_factorisations_and_delays_are_not(loss, expected):
    assert runs_in_turn(loss, 0.4) is expected


def test_starts_in_turn_find_what_a_batch_finds(monkeypatch):
    class Scale(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = Param(0.4, fit=True)

    def loss(model):
        return (decomposed(model.k.value()) - 1.0) ** 2

    found = []
    for in_turn in (True, False):
        monkeypatch.setattr(gradient, "runs_in_turn", lambda *_, in_turn=in_turn: in_turn)
        fitter = Fitter(Scale(), loss_fn=loss)
        found.append(fitter.fit(n_steps=5, n_starts=3, key=jax.random.key(0)).starts.history)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)  # products are summed in another order
    assert np.ptp(found[0][:, 0]) > 0.0
