"""Gradients that explode over the simulated time are said, at the start and once; healthy ones are not."""

import warnings

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brainstate.nn import Param, SigmoidT

from brainloom import Fitter, HopfStep, Simulator
from brainloom.fit.horizon import growth
from brainloom.fit.record import BROKEN, Record
from brainloom.models import LarterBreakspearStep

LBFGS = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(10, store_grad=True))
ANY = ([np.array(-np.inf)], [np.array(np.inf)])


def signal(n):
    return -0.1 + 0.2 * np.sin(0.05 * np.arange(1.0, n + 1.0))


def chaotic(duration, kind, **options):
    """The preset of Larter & Breakspear with a largest exponent of 0.010/ms, and a loss of V sampled every ms."""
    node = LarterBreakspearStep(1, gCa=Param(1.0, t=SigmoidT(0.8, 1.2)))
    assert LarterBreakspearStep.PRESETS["chaotic"] == {"gCa": 1.0}

    def loss(node):
        run = Simulator(node, dt=0.5).run(duration, monitors="V", sample_every=1.0, check=False, **options)
        v = run["V"][:, 0]
        return jnp.mean((v - signal(len(v))) ** 2) if kind == "series" else (jnp.var(v) / 0.03 - 1.0) ** 2

    return node, loss


def healthy(a, noise, kind):
    """Two seconds of a stable focus or a limit cycle of 10 Hz, with a loss of x sampled every ms."""
    node = HopfStep(1, a=Param(a, t=SigmoidT(a - 0.2, a + 0.2)), w=0.06, init_x=0.3, noise_x=noise)

    def loss(node):
        run = Simulator(node, dt=0.5).run(2000.0, monitors="x", sample_every=1.0, key=jax.random.key(1))
        x = run["x"][:, 0]
        return jnp.mean((x - signal(len(x))) ** 2) if kind == "series" else (jnp.var(x) / 0.05 - 1.0) ** 2

    return node, loss


@pytest.mark.parametrize(
    ("duration", "kind", "backend", "optimizer"),
    [
        (1000.0, "series", "grad", optax.adam(1e-3)),
        (1000.0, "variance", "grad", LBFGS),
        (2000.0, "variance", "scipy", None),
    ],
)
def test_chaos_is_said_once(duration, kind, backend, optimizer):
    """Growth exp(0.010 * 1000) = 2e4: hundreds of times more than the loss changes a hundredth of the range away."""
    node, loss = chaotic(duration, kind)
    expected = r"gradient of the loss has norm \d.*it explodes over the simulated time.*truncate=.*spectra or FC.*clip=1.0"
    with pytest.warns(UserWarning, match=expected) as caught:
        result = Fitter(node, optimizer, loss_fn=loss, backend=backend).fit(n_steps=2)
    assert sum("explodes" in str(one.message) for one in caught) == 1
    assert np.isfinite(result.best_loss)


def test_windows_bound_the_gradient_of_a_chaotic_run():
    """Windows of 1 / 0.010 ms: one second more hardly matters, where the full gradient grows by exp(10) or so."""

    def norm(duration, **options):
        def value(gain):
            node = LarterBreakspearStep(1, gCa=gain)
            run = Simulator(node, dt=0.5).run(
                duration, monitors="V", sample_every=1.0, check=False, **options
            )
            return jnp.var(run["V"])

        return abs(jax.jit(jax.grad(value))(1.0))

    full, cut = ([norm(t, **options) for t in (1000.0, 2000.0)] for options in ({}, {"truncate": 100.0}))
    assert full[1] > 20.0 * full[0]
    assert cut[0] < 0.1 * full[0]
    assert cut[1] < 3.0 * cut[0]


@pytest.mark.parametrize(
    ("a", "noise", "kind"), [(-0.05, None, "series"), (0.1, 0.05, "variance"), (0.1, None, "series")]
)
def test_a_focus_a_noisy_network_and_a_limit_cycle_are_fine(a, noise, kind):
    node, loss = healthy(a, noise, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Fitter(node, optax.adam(1e-3), loss_fn=loss).fit(n_steps=6)


def ratio(function, slope, at):
    def evaluate(points):
        found = np.array([function(point[0]) for point in points], float)
        return found, np.isfinite(found)

    point = [np.array(at)]
    return growth([point], [function(at)], [[np.array(slope(at))]], [np.array(1.0)], ANY, evaluate)[0]


def test_growth_of_losses_in_one_dimension():
    """1 for what is smooth, at a minimum as well; the ratio of scales for a ripple; nothing for rounding."""
    assert ratio(lambda x: 3.0 * x + 1.0, lambda x: 3.0, 0.4) == pytest.approx(1.0)
    # a curvature that turns the change on one side round: the other side has it
    assert 0.2 < ratio(lambda x: x**2, lambda x: 2.0 * x, 0.005) <= 1.0
    # sin(1e5 x) / 1e5 promises 0.01 and changes by 1e-5 at most, so the ratio is a thousand or more
    assert ratio(lambda x: np.sin(1e5 * x) / 1e5, lambda x: np.cos(1e5 * x), 0.0) > 400.0
    assert np.isnan(ratio(lambda x: 1.0, lambda x: 1e-14, 0.0))
    assert np.isnan(ratio(lambda x: np.inf if x > 0.4 else x, lambda x: 1.0, 0.4))


def test_promises_along_a_fit_are_counted():
    record = Record(None)
    told = [record.promised(1e3, 1e-3, 1.0) for _ in range(BROKEN + 1)]
    assert told == [False] * (BROKEN - 1) + [True, True]
    assert not Record(None).promised(1.0, 0.9, 0.1)
