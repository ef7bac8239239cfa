"""White noise in simulations: the same variance at every dt, the same statistics by every law of the increments."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, LinearStep, MontbrioPazoRoxinStep, ReducedWongWangStep

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.network import Network
from brainloom.simulate import Simulator

KEY = jax.random.key(7)


@pytest.mark.parametrize("method", ["exp_euler", "stochastic_heun"])
def test_variance_does_not_depend_on_dt(method):
    """``dx = -x/2 dt + 0.3 dW`` has variance 0.09; a step of dt changes it by a share of order dt/2 at most."""
    found = []
    for dt in (0.02, 0.1):
        simulator = Simulator(LinearStep(50, gamma=-0.5, noise_x=0.3, init_x=0.0), dt, method=method)
        x = simulator.run(20.0, key=KEY, batch_size=200, transient=14.0, sample_every=2.0, monitors="x")["x"]
        # 30 000 values, three of each path at correlation e^-1: standard error below 1.3 %
        found.append(float(jnp.var(x)))
    # exponential Euler keeps s^2 dt / (1 - e^-dt) of it, 5 % more at dt = 0.1; Heun is of second order
    exact = [0.09 * (dt / -np.expm1(-dt) if method == "exp_euler" else 1.0) for dt in (0.02, 0.1)]
    np.testing.assert_allclose(found, exact, rtol=0.04)


def statistics(x):
    """Variance of each region and correlation of each pair, (realisation, statistic), from (time, batch, region)."""
    x = np.moveaxis(np.asarray(x), 0, -1)
    upper = np.triu_indices(x.shape[1], 1)
    correlation = np.stack([np.corrcoef(one)[upper] for one in x])
    return np.concatenate([np.log(x.var(axis=-1)), np.arctanh(correlation)], axis=1)


CASES = {
    "HopfStep": (
        lambda: HopfStep(4, a=-0.05, w=np.array([0.3, 0.35, 0.4, 0.45]), noise_x=0.05, noise_y=0.05),
        {"coupled_var": ("x", "y"), "k": 0.05},
        (0.5, 400.0, "stochastic_heun"),
    ),
    "HopfStep, delayed": (
        lambda: HopfStep(4, a=0.05, w=0.4, noise_x=0.1, noise_y=0.1),
        {"coupled_var": "x", "k": 0.1, "delay": 5.0},
        (0.5, 400.0, "heun"),
    ),
    "ReducedWongWangStep": (
        lambda: ReducedWongWangStep(4, noise_S=0.03),
        {"coupling": "additive", "port": "excitatory_gating", "k": 0.1},
        (0.005, 4.0, "heun"),
    ),
    "MontbrioPazoRoxinStep": (
        lambda: MontbrioPazoRoxinStep(4, noise_v=0.1),
        {"coupling": "additive", "k": 1.0},
        (0.02, 16.0, "stochastic_heun"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_laws_of_few_moments_have_the_statistics_of_the_normal_law(case):
    """Variances and functional connectivity of 128 realisations each; steps as long as users take them."""
    node, options, (dt, duration, method) = CASES[case]
    weights = np.array([[0, 1, 0.5, 0], [1, 0, 0, 0.2], [0.5, 0, 0, 1], [0, 0.2, 1, 0]])
    simulator = Simulator(Network(node(), weights, **options), dt, method=method)
    found = {}
    for law in ("gaussian", "weak", "three_point"):
        x = simulator.run(
            duration,
            key=KEY,
            batch_size=128,
            transient=duration / 4,
            sample_every=4,
            noise=law,
            monitors="source",
        )
        assert not np.asarray(x["diverged"]).any()
        found[law] = statistics(x["source"])
    error = {law: value.std(axis=0) / np.sqrt(128) for law, value in found.items()}
    assert (
        error["gaussian"].max() < 0.06
    )  # shares of the variance, and of correlation: small effects are seen
    for law in ("weak", "three_point"):
        assert np.abs(found[law] - found["gaussian"]).max() > 1e-3  # the paths are others
        gap = found[law].mean(axis=0) - found["gaussian"].mean(axis=0)
        z = gap / np.hypot(error[law], error["gaussian"])
        # 10 statistics: one beyond 4 is seen in one of 1500 pairs of equal laws
        assert np.abs(z).max() < 4.0, z
