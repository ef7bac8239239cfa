"""Noise processes: laws in time and between regions, spectra, gradients, units, and the other conventions."""

from __future__ import annotations

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainloom.models  # noqa: F401  before brainstate, which resets the precision

import brainstate  # isort: skip

from noise_paths import signal_of, values

from brainloom import noise
from brainloom.core.units import UnitError
from brainloom.noise import counter

# dx = -theta x dt + s dW with theta = 0.2/ms and s = 0.1/sqrt(ms): stationary variance s^2 / (2 theta), and
# correlation exp(-theta 5 ms) after 5 ms.
THETA, S = 0.2, 0.1
VARIANCE, CORRELATION_5 = 0.025, 0.367879441171442
RANDOM = np.random.default_rng(0).normal(size=(4, 4))
COVARIANCE = RANDOM @ RANDOM.T + np.diag([1.0, 2.0, 0.5, 1.0])  # its L^T L is another matrix


def kicks_of(process, n_steps, n_regions, dt):
    draws = np.random.default_rng(0).normal(size=(n_steps, n_regions))
    return type(process).kick(process.structure(), values(process), jnp.ones(n_regions), draws, dt)


# --- white ---------------------------------------------------------------------------------------------------


def test_white_kicks_have_the_variance_of_dt():
    for dt in (0.1, 2.0):
        kicks = np.asarray(kicks_of(noise.WhiteNoise(np.array([0.5, 2.0])), 100_000, 2, dt))
        # a sample variance has the relative standard error sqrt(2/n) = 0.0045; four of them
        np.testing.assert_allclose(kicks.var(axis=0), np.array([0.25, 4.0]) * dt, rtol=0.018)


@pytest.mark.parametrize("dt", [0.2, 0.05])
def test_variance_of_a_linear_node_does_not_depend_on_dt(dt):
    """dx = -x dt + s dW by Euler-Maruyama: s^2 / (2 - dt) exactly, s^2 / 2 as dt goes to 0."""
    kicks = kicks_of(noise.WhiteNoise(0.3), int(200 / dt), 400, dt)
    path = jax.lax.scan(lambda x, k: ((1 - dt) * x + k,) * 2, jnp.zeros(400), kicks)[1]
    variance = np.var(np.asarray(path)[int(10 / dt) :])
    # 400 regions of 190 correlation times: 76,000 independent samples, relative error 0.005; four of them
    assert variance == pytest.approx(0.09 / (2 - dt), rel=0.02)


def test_correlated_kicks_have_the_covariance_that_is_given():
    kicks = np.asarray(kicks_of(noise.WhiteNoise(2.0, correlation=COVARIANCE), 200_000, 4, 0.25))
    found = np.cov(kicks.T)
    # entries: variance (C_ii C_jj + C_ij^2) / n of a sample covariance; five standard errors
    diagonal = np.diag(COVARIANCE)
    error = np.sqrt((np.outer(diagonal, diagonal) + COVARIANCE**2) / 200_000)
    assert np.all(np.abs(found - COVARIANCE) < 5 * error)
    factor = np.linalg.cholesky(COVARIANCE)
    assert np.abs(factor.T @ factor - COVARIANCE).max() > 100 * error.max()  # the other order would be seen


def test_kick_is_sigma_factor_draw_in_any_batch():
    process = noise.WhiteNoise(np.array([1.0, 2.0, 3.0, 4.0]), correlation=COVARIANCE)
    draws = np.random.default_rng(1).normal(size=(5, 3, 4))
    found = type(process).kick(
        process.structure(), values(process), jnp.zeros((5, 3, 4)), jnp.asarray(draws), 0.04
    )
    expected = np.einsum("ij,abj->abi", np.linalg.cholesky(COVARIANCE), draws) * [1, 2, 3, 4] * 0.2
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: noise.WhiteNoise(1.0, in_size=2, correlation=c),
        lambda c: noise.OUProcess(2, sigma=1.0, tau=1.0, correlation=c),
    ],
)
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), r"shape \(3, 3\); it must be \(2, 2\)"),
        (np.ones(2), r"it must be \(2, 2\)"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "not symmetric"),
        (np.ones((2, 2)), "positive definite"),
    ],
)
def test_wrong_correlations_are_refused(make, matrix, message):
    with pytest.raises(ValueError, match=message):
        make(matrix)


# --- multiplicative ------------------------------------------------------------------------------------------


def test_multiplicative_kick_and_meaning():
    x, z = jnp.array([2.0, -3.0]), jnp.array([0.5, 1.5])
    linear = noise.MultiplicativeNoise(sigma=0.4)
    found = type(linear).kick(linear.structure(), values(linear), x, z, 0.25)
    np.testing.assert_allclose(found, 0.4 * np.array([2, -3]) * 0.5 * np.array([0.5, 1.5]), rtol=1e-14)
    root = noise.MultiplicativeNoise(jnp.square, sigma=np.array([1.0, 2.0]), stratonovich=True)
    found = type(root).kick(root.structure(), values(root), x, z, 0.25)
    np.testing.assert_allclose(found, [4 * 0.5 * 0.5, 2 * 9 * 0.5 * 1.5], rtol=1e-14)
    assert [p.interpretation(p.structure()) for p in (linear, root, noise.WhiteNoise(1.0))] == [
        "ito",
        "stratonovich",
        "additive",
    ]
    same = noise.MultiplicativeNoise(jnp.square, sigma=3.0, stratonovich=True)
    assert same.structure() == root.structure() and hash(same.structure()) == hash(root.structure())
    assert linear.structure() != noise.MultiplicativeNoise(sigma=0.4, stratonovich=True).structure()
    with pytest.raises(TypeError, match=r"sigma=0\.4"):
        noise.MultiplicativeNoise(0.4)


def test_drift_of_the_two_meanings():
    """Geometric Brownian motion: the mean of Ito steps is constant, that of Heun steps is exp(sigma^2 t / 2)."""
    process = noise.MultiplicativeNoise(sigma=0.5)
    structure, params = process.structure(), values(process)
    n, dt, paths = 100, 0.01, 40_000
    draws = np.random.default_rng(0).normal(size=(n, paths))

    def kick(x, z):
        return type(process).kick(structure, params, x, z, dt)

    def heun(x, z):
        guess = x + kick(x, z)
        return x + 0.5 * (kick(x, z) + kick(guess, z)), None

    ito = jax.lax.scan(lambda x, z: (x + kick(x, z), None), jnp.ones(paths), draws)[0]
    stratonovich = jax.lax.scan(heun, jnp.ones(paths), draws)[0]
    # standard deviation of the end 0.53 (0.61): standard errors 0.0027 (0.0031); four of them
    assert float(jnp.mean(ito)) == pytest.approx(1.0, abs=0.011)
    assert float(jnp.mean(stratonovich)) == pytest.approx(np.exp(0.125), abs=0.013)


# --- Ornstein-Uhlenbeck ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", [0.25, 1.0, 7.5])
def test_ou_variance_and_autocorrelation_at_any_dt(dt):
    tau = 1 / THETA
    process = noise.OUProcess(sigma=noise.sigma_from_rate(S, THETA), tau=tau, mean=0.3)
    n = int(1000 / dt)
    x = signal_of(process, n, 1500, dt) - 0.3
    # 1,500 regions for 200 correlation times: relative error of the variance sqrt(2 coth(dt/tau) / (1500 n)),
    # at most 0.0026; four of them, as the reference table asks (0.01)
    assert np.mean(x**2) == pytest.approx(VARIANCE, rel=0.01)
    assert np.mean(x[0] ** 2) == pytest.approx(
        VARIANCE, rel=4 * np.sqrt(2 / 1500)
    )  # stationary from the start
    for lag in {1, round(5 / dt) or 1}:
        expected = np.exp(-lag * dt / tau)
        assert np.mean(x[lag:] * x[:-lag]) / np.mean(x**2) == pytest.approx(expected, abs=0.006)
    if dt == 1.0:
        assert np.mean(x[5:] * x[:-5]) / np.mean(x**2) == pytest.approx(CORRELATION_5, rel=0.01)


def test_ou_step_is_the_closed_form():
    process = noise.OUProcess(
        3, mean=np.array([0.0, 1.0, -1.0]), sigma=np.array([1.0, 2.0, 0.5]), tau=np.array([1.0, 5.0, 20.0])
    )
    x, z, dt = np.array([0.3, -2.0, 4.0]), np.array([1.0, -0.5, 2.0]), 0.7
    p = values(process)
    expected = process.mean + (x - process.mean) * np.exp(-dt / process.tau)
    expected = expected + process.sigma * np.sqrt(1 - np.exp(-2 * dt / process.tau)) * z
    for given in (p, type(process).prepare(process.structure(), p, dt)):
        found = type(process).advance(
            process.structure(), given, {"value": jnp.asarray(x)}, jnp.asarray(z), dt
        )
        np.testing.assert_allclose(found["value"], expected, rtol=1e-13)


def test_ou_of_correlated_regions():
    process = noise.OUProcess(4, sigma=0.5, tau=2.0, correlation=COVARIANCE)
    x = signal_of(process, 60_000, 4, 4.0)  # e^-2 between samples: n_eff = n tanh(2)
    error = np.sqrt((np.outer(*[np.diag(COVARIANCE)] * 2) + COVARIANCE**2) / (60_000 * np.tanh(2.0)))
    assert np.all(np.abs(np.cov(x.T) / 0.25 - COVARIANCE) < 5 * error)
    starts = np.stack(
        [
            np.asarray(type(process).start(process.structure(), values(process), jnp.asarray(z))["value"])
            for z in np.eye(4)[:, None]
        ]
    )
    np.testing.assert_allclose(starts.T @ starts, 0.25 * COVARIANCE, rtol=1e-12)


def test_brownian_variance_grows_with_time():
    x = signal_of(noise.BrownianNoise(sigma=0.7), 200, 20_000, 0.5)
    assert np.all(x[0] == 0)
    for step in (1, 50, 200):
        # relative standard error 0.01; four of them
        assert np.var(x[step]) == pytest.approx(0.49 * 0.5 * step, rel=0.04)


def test_batch_members_and_regions_are_independent():
    """Two members of three regions, driven by the counter as in a run."""
    process = noise.OUProcess(sigma=1.0, tau=1.0)
    structure, p = process.structure(), values(process)

    def member(realisation):
        words = counter.key_words(jax.random.key(0), realisation)
        draws = counter.increments("gaussian", words, 0, 20_000, 1, 3)[:, 0]

        def step(state, draw):
            return (type(process).advance(structure, p, state, draw, 1.0),) * 2

        return jax.lax.scan(step, {"value": jnp.zeros(3)}, draws)[1]["value"]

    x = np.asarray(jax.jit(jax.vmap(member))(jnp.arange(2)))
    found = np.corrcoef(np.concatenate([x[0], x[1]], axis=1).T)
    # the correlation of two such paths has the variance coth(1) / n; five standard errors
    assert np.abs(found - np.eye(6)).max() < 5 * np.sqrt(1 / np.tanh(1) / 20_000)


# --- parameters -------------------------------------------------------------------------------------------------


def test_positional_signatures():
    assert noise.OUProcess(5, sigma=1.0, tau=2.0).in_size == 5
    assert noise.WhiteNoise(0.1, in_size=5).in_size == 5
    assert noise.PinkNoise(5, sigma=1.0).in_size == noise.ColouredNoise(1.0, 5, sigma=1.0).in_size == 5
    assert noise.PinkNoise(sigma=1.0).structure() != noise.BlueNoise(sigma=1.0).structure()
    assert not noise.OUProcess(sigma=1.0, tau=1.0).WHITE and noise.WhiteNoise(1.0).WHITE


@pytest.mark.parametrize("time_unit", ["ms", "s"])
def test_quantities_are_converted(time_unit):
    scale = 1.0 if time_unit == "ms" else 1e-3
    process = noise.OUProcess(mean=0.2 * u.nA, sigma=50.0 * u.pA, tau=20.0 * u.ms)
    found = values(process, "nA", time_unit)
    assert (found["mean"], found["sigma"]) == (pytest.approx(0.2), pytest.approx(0.05))
    assert found["tau"] == pytest.approx(20 * scale)
    white = noise.WhiteNoise(0.1 * u.mV / u.ms**0.5)
    assert values(white, "mV", time_unit)["sigma"] == pytest.approx(0.1 * scale**-0.5)
    for f_min in (2.0, 2.0 * u.Hz, 0.002 / u.ms):
        assert values(noise.PinkNoise(sigma=1.0, f_min=f_min), "1", time_unit)["f_min"] == pytest.approx(
            2e-3 / scale
        )
    with pytest.raises(UnitError, match="tau of the noise of x"):
        values(noise.OUProcess(sigma=1.0, tau=5.0 * u.mV))
    with pytest.raises(UnitError, match=r"mean of the noise of x is given in nA.*mV"):
        values(process, "mV", time_unit)


def test_params_give_their_constrained_values():
    process = noise.OUProcess(
        sigma=brainstate.nn.Param(0.4, t=brainstate.nn.SoftplusT(0.0)),
        tau=brainstate.nn.Param(3.0, fit=False),
        correlation=brainstate.nn.Param(COVARIANCE),
    )
    found = values(process)
    assert float(found["sigma"]) == pytest.approx(0.4) and float(found["tau"]) == pytest.approx(3.0)
    np.testing.assert_allclose(found["factor"], np.linalg.cholesky(COVARIANCE), rtol=1e-12)
    assert "correlation" not in found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise.WhiteNoise(-1.0), "sigma of WhiteNoise is -1.0"),
        (lambda: noise.OUProcess(sigma=1.0, tau=np.array([1.0, 0.0])), "tau of OUProcess"),
        (lambda: noise.BrownianNoise(sigma=-1.0 * u.mV), "sigma of BrownianNoise"),
        (lambda: noise.ColouredNoise(2.5, sigma=1.0), r"beta is 2.5; it must be in \[-2, 2\]"),
        (lambda: noise.ColouredNoise(0.0, sigma=1.0), "WhiteNoise"),
        (lambda: noise.PinkNoise(sigma=1.0, f_min=0.0), "f_min of PinkNoise"),
        (lambda: noise.PinkNoise(sigma=1.0, n_poles=0), "n_poles is 0"),
        (lambda: values(noise.PinkNoise(sigma=1.0, f_min=np.ones(3))), "f_min of the noise of x"),
    ],
)
def test_impossible_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_processes_can_be_made_from_traced_values():
    def spread(sigma):
        process = noise.OUProcess(sigma=sigma, tau=2.0 * sigma, correlation=sigma * jnp.eye(2))
        return jnp.sum(type(process).start(process.structure(), values(process), jnp.ones((1, 2)))["value"])

    assert float(jax.jit(spread)(4.0)) == pytest.approx(2 * 4.0 * 2.0)


@pytest.mark.parametrize(
    ("process", "names"),
    [
        (
            noise.OUProcess(2, mean=0.2, sigma=0.5, tau=3.0, correlation=[[1.0, 0.4], [0.4, 2.0]]),
            "mean sigma tau factor",
        ),
        (noise.PinkNoise(mean=0.2, sigma=0.5, f_min=5.0, n_poles=1), "mean sigma f_min"),
        (noise.BlueNoise(sigma=0.5, f_min=5.0, n_poles=1), "sigma f_min"),
        (noise.BrownianNoise(sigma=0.5), "sigma"),
    ],
)
def test_gradients_against_central_differences(process, names):
    """Mean square of a short path by every parameter."""
    kind, structure = type(process), process.structure()
    random = np.random.default_rng(0)
    starts, draws = random.normal(size=(kind.n_start(structure), 2)), random.normal(size=(10, 2))

    def loss(params):
        p = kind.prepare(structure, params, 0.5) if hasattr(kind, "prepare") else params
        state = kind.start(structure, p, starts)

        def step(state, draw):
            new = kind.advance(structure, p, state, draw, 0.5)
            return new, new["value"]

        x = jax.lax.scan(step, state, draws)[1]
        return jnp.mean(x[:, 0] ** 2 + 0.5 * x[:, 0] * x[:, 1])

    params, directions, steps = values(process), [], []
    for name in names.split():
        direction = np.tril(np.ones_like(params[name])) if name == "factor" else np.ones_like(params[name])
        steps.append(1e-5 * float(np.max(np.abs(params[name]))))
        zero = {k: np.zeros_like(v) for k, v in params.items()}
        directions.append(zero | {name: direction})
    directions = jax.tree.map(lambda *x: np.stack(x), *directions)

    @jax.jit
    @jax.vmap
    def both(direction, h):
        def moved(sign):
            return loss(jax.tree.map(lambda x, d: x + sign * h * d, params, direction))

        found = jax.grad(loss)(params)
        along = sum(jnp.sum(found[k] * direction[k]) for k in params)
        return along, (moved(1.0) - moved(-1.0)) / (2 * h)

    # truncation h^2 = 1e-10, rounding 1e-16 / h = 1e-11
    along, expected = both(directions, np.array(steps))
    np.testing.assert_allclose(along, expected, rtol=1e-7, atol=1e-9)
    assert np.all(np.abs(along) > 1e-4)


def test_gradient_of_kicks_by_correlation_and_sigma():
    z = jnp.array([0.3, -1.2])

    def kick(rho, sigma):
        process = noise.WhiteNoise(
            sigma, correlation=jnp.array([[1.0, 0.0], [0.0, 1.0]]) + rho * (1 - jnp.eye(2))
        )
        return type(process).kick(process.structure(), values(process), z, z, 0.25)[1]

    # row 1 of the factor is (rho, sqrt(1 - rho^2))
    found = jax.jit(jax.grad(kick, argnums=(0, 1)))(0.6, 2.0)
    assert float(found[0]) == pytest.approx(2.0 * 0.5 * (0.3 + 1.2 * 0.6 / 0.8), rel=1e-12)
    assert float(found[1]) == pytest.approx(0.5 * (0.6 * 0.3 - 0.8 * 1.2), rel=1e-12)


# --- other conventions ------------------------------------------------------------------------------------------


def euler_variance(drift, diffusion):
    """Stationary variance of a linear equation, dx = -drift x dt + diffusion dW."""
    return diffusion**2 / (2 * drift)


def test_converters():
    s, tau, theta = 0.3, 4.0, 0.25
    assert noise.sigma_from_variance_rate(0.02) == pytest.approx(0.2)
    assert noise.sigma_from_time_constant(s, tau) ** 2 == pytest.approx(euler_variance(1 / tau, s / tau))
    assert noise.sigma_from_scaled_time(s) ** 2 == pytest.approx(euler_variance(1 / tau, s / tau**0.5))
    assert noise.sigma_from_rate(s, theta) ** 2 == pytest.approx(euler_variance(theta, s))
    # back: s of `tau dx = -x dt + s dW` is sigma sqrt(2 tau)
    assert noise.sigma_from_time_constant(0.7 * np.sqrt(2 * tau), tau) == pytest.approx(0.7)
    arrays = noise.sigma_from_rate(np.array([0.1, 0.2]), np.array([0.2, 0.8]))
    np.testing.assert_allclose(arrays**2, [0.025, 0.025])


def test_converters_keep_units():
    amplitude = noise.sigma_from_variance_rate(2.0 * u.mV**2 / u.ms)
    assert float(values(noise.WhiteNoise(amplitude), "mV")["sigma"]) == pytest.approx(2.0)
    sigma = noise.sigma_from_rate(0.1 * u.nA / u.ms**0.5, 0.2 / u.ms)
    ou = noise.OUProcess(sigma=sigma, tau=5.0 * u.ms)
    assert float(values(ou, "nA")["sigma"]) ** 2 == pytest.approx(VARIANCE)
    sigma = noise.sigma_from_time_constant(0.1 * u.nA * u.ms**0.5, 5.0 * u.ms)
    assert float(values(noise.OUProcess(sigma=sigma, tau=5.0), "nA")["sigma"]) == pytest.approx(0.1 / 10**0.5)
    assert noise.sigma_from_scaled_time(2.0 * u.mV) / u.mV == pytest.approx(2**0.5)
