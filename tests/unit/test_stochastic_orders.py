"""
Strong and weak orders of the stochastic schemes, and what Ito and Stratonovich mean in them.

Strong orders: all steps see the same Brownian paths, whose increments are sums of those of the finest grid.
Weak orders: moments over one step are sums over the nodes of a quadrature that is exact for them, so nothing
is random.
"""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, LinearStep
from brainloom.noise import MultiplicativeNoise

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.integrate import stochastic_step
from brainloom.models.lowering import lower
from brainloom.network import Network

FINEST, PATHS = 2.0**-11, 500
COARSE = np.array([128, 64, 32])


def slope_of(errors):
    return np.polyfit(np.log2(COARSE), np.log2(errors), 1)[0]


def walk(method, f, start, kicks_of, increments, coarse):
    """End of all paths in steps of `coarse` fine ones; `kicks_of(dw)` is what `stochastic_step` takes."""
    dt, n = coarse * FINEST, len(increments) // coarse
    summed = increments.reshape(n, coarse, *increments.shape[1:]).sum(axis=1)

    def step(state, row):
        k, dw = row
        return stochastic_step(method, f, state, kicks_of(dw), k * dt, dt), None

    return jax.lax.scan(step, start, (jnp.arange(n), summed))[0]


# --- strong orders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, order", [("euler_maruyama", 0.5), ("heun", 0.5), ("stochastic_heun", 1.0)])
def test_strong_order_for_multiplicative_noise(method, order):
    """Geometric Brownian motion has a closed form in the sense of each scheme."""
    mu, sigma, t_end = -0.5, 0.8, 1.0
    dw = jax.random.normal(jax.random.key(0), (round(t_end / FINEST), PATHS)) * np.sqrt(FINEST)
    drift = mu if method == "stochastic_heun" else mu - 0.5 * sigma**2  # Stratonovich, Ito
    exact = 1.5 * jnp.exp(drift * t_end + sigma * dw.sum(axis=0))
    errors = []
    for coarse in COARSE:
        end = walk(
            method,
            lambda s, t: {"x": mu * s["x"]},
            {"x": jnp.full(PATHS, 1.5)},
            lambda dw: lambda s: {"x": sigma * s["x"] * dw},
            dw,
            int(coarse),
        )
        errors.append(float(jnp.mean(jnp.abs(end["x"] - exact))))
    assert slope_of(errors) == pytest.approx(order, abs=0.15)  # 500 paths: standard deviation 0.04


@pytest.mark.parametrize("method, order", [("euler_maruyama", 0.5), ("stochastic_heun", 1.0)])
def test_strong_order_where_each_equation_has_its_own_noise(method, order):
    """Two equations that see each other's state, each with noise of its own amplitude: against the finest grid."""
    dw = jax.random.normal(jax.random.key(1), (round(0.5 / FINEST), 2, PATHS)) * np.sqrt(FINEST)

    def f(s, t):
        # slow: the error of the noise must not hide behind that of the drift, which is of order 1 always
        return {"x": 0.3 * (jnp.sin(s["y"]) - s["x"] ** 3 + t), "y": 0.3 * (s["x"] - s["y"])}

    def run(coarse):
        start = {"x": jnp.full(PATHS, 0.6), "y": jnp.full(PATHS, -0.4)}
        noise = lambda dw: lambda s: {"x": 0.9 * s["x"] * dw[0], "y": 0.9 * jnp.cos(s["y"]) * dw[1]}  # noqa: E731
        end = walk(method, f, start, noise, dw, coarse)
        return jnp.concatenate([end["x"], end["y"]])

    reference = run(1)
    errors = [float(jnp.mean(jnp.abs(run(int(coarse)) - reference))) for coarse in COARSE]
    assert slope_of(errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", ["euler_maruyama", "stochastic_heun", "heun", "rk4", "exp_euler"])
@pytest.mark.parametrize("delayed", [False, True])
def test_strong_order_one_in_networks_with_additive_noise(method, delayed):
    """Through `lower`: unit-variance draws, scaled by the square root of dt inside."""
    n, t_end = 2, 1.0
    draws = jax.random.normal(jax.random.key(2), (round(t_end / FINEST), 2, 200, n))
    node = HopfStep(n, a=0.3, w=2.0, init_x=0.5, noise_x=0.4, noise_y=np.array([0.3, 0.5]))
    weights = np.array([[0.0, 1.0], [0.6, 0.0]])
    options = {"delay": 0.125 + FINEST * 0.4} if delayed else {}
    network = Network(node, weights, k=1.5, coupled_var=("x", "y"), **options)

    def end(coarse):
        low = lower(network, coarse * FINEST, method)
        summed = draws.reshape(-1, coarse, *draws.shape[1:]).sum(axis=1) / np.sqrt(coarse)
        p, state = low.params, low.init(low.params, batch_size=200)
        end, _ = jax.jit(low.advance)(p, state, {}, summed)
        return jnp.concatenate([end["x"], end["y"]])

    reference = end(1)
    errors = [float(jnp.mean(jnp.abs(end(int(coarse)) - reference))) for coarse in COARSE]
    assert slope_of(errors) == pytest.approx(1.0, abs=0.15)


# --- weak orders ---------------------------------------------------------------------------------------------------

NODES, SHARES = np.polynomial.hermite_e.hermegauss(12)
SHARES = SHARES / SHARES.sum()
LAWS = {
    "gaussian": (NODES, SHARES),
    "three_point": (np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1.0, 4.0, 1.0]) / 6.0),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("method, order", [("euler_maruyama", 1), ("stochastic_heun", 1)])
def test_weak_order_for_multiplicative_noise(method, order, moment, law):
    """A step multiplies the moments of geometric Brownian motion by a number: its power is the moment at T = 1."""
    mu, sigma = -0.5, 0.8
    nodes, shares = LAWS[law]
    drift = mu if method == "euler_maruyama" else mu + 0.5 * sigma**2
    exact = np.exp(moment * drift + 0.5 * moment * (moment - 1) * sigma**2)

    def bias(dt):
        dw = jnp.asarray(nodes) * np.sqrt(dt)
        new = stochastic_step(
            method,
            lambda s, t: {"x": mu * s["x"]},
            {"x": jnp.ones(len(nodes))},
            lambda s: {"x": sigma * s["x"] * dw},
            0.0,
            dt,
        )
        return abs((shares @ np.asarray(new["x"]) ** moment) ** (1 / dt) - exact)

    assert np.log2(bias(0.02) / bias(0.01)) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("method, order", [("euler_maruyama", 1), ("exp_euler", 1), ("stochastic_heun", 2)])
def test_weak_order_of_a_network_with_additive_noise(method, order, law):
    """The covariance of coupled linear regions after 1 ms: a step is ``x -> A x + B z``, both read off."""
    gamma, k, amplitudes = -0.7, 0.9, np.array([0.5, 0.3])
    weights = np.array([[0.0, 1.0], [0.4, 0.0]])
    network = Network(LinearStep(2, gamma=gamma, noise_x=amplitudes), weights, k=k, coupling="additive")
    drift = gamma * np.eye(2) + k * weights
    values, vectors = np.linalg.eig(drift)
    back = np.linalg.inv(vectors)
    inner = back @ np.diag(amplitudes**2) @ back.T
    grown = np.add.outer(values, values)
    exact = (vectors @ (inner * np.expm1(grown) / grown) @ vectors.T).real
    nodes, shares = LAWS[law]

    def bias(dt):
        low = lower(network, dt, method)
        step = jax.jit(lambda x, z: low.step(low.params, {"x": x}, {}, z[None])[0]["x"])
        carried = np.asarray(step(jnp.eye(2), jnp.zeros((2, 2)))).T
        pushed = np.asarray(step(jnp.zeros((2, 2)), jnp.eye(2))).T
        variance = shares @ nodes**2  # 1 for both laws
        total = np.zeros((2, 2))
        for _ in range(round(1.0 / dt)):
            total = carried @ total @ carried.T + variance * pushed @ pushed.T
        return np.abs(total - exact).max()

    assert np.log2(bias(0.04) / bias(0.02)) == pytest.approx(order, abs=0.1)


# --- Ito and Stratonovich --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stratonovich", [False, True])
@pytest.mark.parametrize("method", ["euler_maruyama", "rk4", "exp_euler", "stochastic_heun"])
def test_every_scheme_solves_the_equation_that_is_meant(method, stratonovich):
    """
    ``dx = gamma x dt + sigma x dW``: the mean grows at gamma (Ito) or gamma + sigma^2 / 2 (Stratonovich).

    A scheme of the other kind takes the drift that makes up for it; the rate over one step is read off.
    """
    gamma, sigma = -0.3, 0.8

    def rate(dt):
        noise = MultiplicativeNoise(sigma=sigma, stratonovich=stratonovich)
        low = lower(LinearStep(len(NODES), gamma=gamma, noise_x=noise), dt, method)
        new, _ = low.step(low.params, {"x": jnp.ones(len(NODES))}, {}, jnp.asarray(NODES)[None])
        return np.log(SHARES @ np.asarray(new["x"])) / dt

    expected = gamma + 0.5 * sigma**2 * stratonovich
    errors = [abs(rate(dt) - expected) for dt in (0.02, 0.01)]
    # the other meaning would be off by 0.32 at any step; exponential Euler and RK4 are exact but for 1e-8
    assert errors[1] < 0.01
    assert errors[0] < 1e-8 or np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.2)


def test_additive_noise_means_the_same_to_every_scheme():
    """No drift is added: the mean of a linear node decays at its rate."""
    for method in ("euler_maruyama", "stochastic_heun"):
        low = lower(LinearStep(len(NODES), gamma=-0.3, noise_x=0.8), 0.01, method)
        new, _ = low.step(low.params, {"x": jnp.ones(len(NODES))}, {}, jnp.asarray(NODES)[None])
        assert SHARES @ np.asarray(new["x"]) == pytest.approx(np.exp(-0.003), rel=1e-5)
