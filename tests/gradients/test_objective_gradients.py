"""
Gradients of every objective against central finite differences in float64, and what has no variance.

Steps are 1e-6 of signals of order 1 along random directions: the differences are off by about 1e-12 of the third
derivative and by 1e-10 of rounding, so 1e-6 of the slope is loose for a right gradient and tight for a wrong one.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import objectives as o

N_TIME, N_REGION, DT = 300, 4, 0.02
STEP, RTOL, N_DIRECTIONS = 1e-6, 1e-6, 4
# Compiled for one run: what takes long is the compiler.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TIMED = {"dt": DT, "window": 2.0}


def signal(seed, n_time=N_TIME):
    """Noise and waves between 4 and 12 Hz, mixed so that regions correlate."""
    rng = np.random.default_rng(seed)
    t = DT * np.arange(n_time)[:, None]
    waves = np.sin(2 * np.pi * (rng.uniform(7, 11, N_REGION) * t + rng.uniform(0, 1, N_REGION)))
    x = rng.normal(size=(n_time, N_REGION)) + waves * (
        1 + np.sin(2 * np.pi * rng.uniform(0.3, 1, N_REGION) * t)
    )
    return x @ (np.eye(N_REGION) + 0.4 * rng.normal(size=(N_REGION, N_REGION)))


X, Y = signal(0), signal(1)
FCD_WINDOWS = {"window": 40, "step": 10}
BANDS = {"theta": (4, 8), "alpha": (8, 13)}


@dataclass
class Case:
    """An objective, its target, and how an array becomes its prediction."""

    objective: Any
    target: Any = field(default_factory=lambda: Y)
    prediction: Any = field(default=lambda x: x)
    start: Any = field(default_factory=lambda: X)


def spectra(x):
    """Positive definite cross-spectra that depend on a signal."""
    parts = x.reshape(5, -1, N_REGION)
    z = parts[:, :30] + 1j * parts[:, 30:]
    return o.CSD(np.arange(5.0), jnp.einsum("fti,ftj->fij", z, jnp.conj(z)), 30)


CASES = {
    "timeseries_rmse": Case(o.timeseries_rmse()),
    "cosine_sim": Case(o.cosine_sim(as_loss=True)),
    "fc_corr": Case(o.fc_corr()),
    "fc_corr of a matrix": Case(o.fc_corr(), o.FC(np.corrcoef(Y.T)), lambda x: o.FC(jnp.corrcoef(x.T))),
    "fc_rmse": Case(o.fc_rmse(), o.FC(np.corrcoef(Y.T))),
    "fc_rmse with the diagonal": Case(o.fc_rmse(include_diagonal=True)),
    "fc_rmse of realisations": Case(o.fc_rmse(), Y, lambda x: x.reshape(100, 3, N_REGION)),
    "lagged_fc": Case(o.lagged_fc(2)),
    "lagged_fc rmse": Case(o.lagged_fc(measure="rmse")),
    "fcd": Case(o.fcd(**FCD_WINDOWS, as_loss=True)),
    "fcd_ks": Case(o.fcd_ks(**FCD_WINDOWS)),
    "fcd_wasserstein": Case(o.fcd_wasserstein(**FCD_WINDOWS, bw_method="silverman")),
    "psd_log": Case(o.psd_log(band=(2, 20), **TIMED)),
    "psd_log relative": Case(o.psd_log(relative=True, **TIMED)),
    "psd_log of another grid": Case(
        o.psd_log(band=(2, 20), **TIMED), o.PSD(np.arange(1.0, 24.0), np.ones((N_REGION, 23)))
    ),
    "band_power": Case(o.band_power(BANDS, **TIMED)),
    "band_power relative": Case(o.band_power(BANDS, relative=True, log=False, **TIMED)),
    "spectral_peak": Case(o.spectral_peak((5, 15), **TIMED), o.PeakFrequency([np.nan, 9.0, 10.0, 11.0])),
    "envelope_fc": Case(o.envelope_fc((6, 14), dt=DT)),
    "envelope_fc absolute": Case(o.envelope_fc((6, 14), dt=DT, absolute=True, measure="rmse")),
    "envelope_fc plain": Case(o.envelope_fc((6, 14), dt=DT, orthogonalize=False)),
    "erp": Case(o.erp([1.0, 2.5, 4.0], dt=DT, baseline=(-0.1, 0.0))),
    "erp corr": Case(o.erp([1.0, 2.5, 4.0], dt=DT, measure="corr", as_loss=True)),
    "level": Case(o.level()),
    "amplitude": Case(o.amplitude()),
    "variance": Case(o.variance()),
    "variance rmse": Case(o.variance("rmse")),
    "synchrony": Case(o.synchrony(dt=DT, band=(6, 14))),
    "metastability": Case(o.metastability(dt=DT, band=(6, 14)), o.Metastability(0.1)),
    "gaussian": Case(o.gaussian(0.7)),
    "gaussian with its noise": Case(
        o.gaussian(),
        Y,
        lambda x: o.Normal(x[:, :N_REGION], jnp.exp(x[:, N_REGION:])),
        np.hstack([X, 0.1 * X]),
    ),
    "wishart": Case(o.wishart()),
    "wishart of correlations": Case(o.wishart(40.0, correlation=True), o.FC(np.corrcoef(Y.T))),
    "cross_spectra": Case(o.cross_spectra(), spectra(Y), spectra),
    "combine": Case(
        o.combine((1.0, o.on("a", o.fc_corr(as_loss=True))), (0.5, o.on("b", o.amplitude()))),
        {"a": o.FC(np.corrcoef(Y.T)), "b": Y},
        lambda x: {"a": x, "b": x},
    ),
}


def value(case):
    return lambda x: case.objective(case.prediction(x), case.target)


def whole(x):
    return np.full_like(x, 0.3)


def one_region(x):
    return np.where(np.arange(x.shape[1]) == 1, 0.1, x)


def silent_region(x):
    return np.where(np.arange(x.shape[1]) == 1, 0.0, x)


def twins(x):
    return np.where(np.arange(x.shape[1]) == 1, x[:, :1], x)


def ramp(x):
    return np.where(np.arange(x.shape[1]) == 1, np.linspace(0, 1, len(x))[:, None], x)


def not_a_number(x):
    spoilt = x.copy()
    spoilt[150, 2] = np.nan
    return spoilt


def equal(x):
    return Y if x.shape == Y.shape else x


CONSTANT = (whole, one_region, silent_region, twins, ramp)
SPOILT = (*CONSTANT, not_a_number, equal)
DIRECTIONS = {n: np.random.default_rng(2).normal(size=(N_DIRECTIONS, N_TIME, n)) for n in (4, 8)}


@cache
def results(name):
    """Values and gradients in one compiled, batched program: at the start, around it, and at spoilt signals."""
    case = CASES[name]
    steps = STEP * DIRECTIONS[case.start.shape[1]]
    points = [case.start[None], case.start + steps, case.start - steps]
    points += [spoil(case.start)[None] for spoil in SPOILT]
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(value(case))), compiler_options=QUICK)(
        np.concatenate(points)
    )
    return np.asarray(values), np.asarray(gradients)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_differences_under_jit_and_vmap(name):
    values, gradients = results(name)
    above, below = values[1 : 1 + N_DIRECTIONS], values[1 + N_DIRECTIONS : 1 + 2 * N_DIRECTIONS]
    slopes = np.sum(gradients[0] * DIRECTIONS[gradients.shape[-1]], axis=(1, 2))
    scale = max(np.abs(slopes).max(), 1e-6 * abs(values[0]))
    np.testing.assert_allclose(slopes, (above - below) / (2 * STEP), rtol=0, atol=RTOL * scale)
    assert np.abs(slopes).max() > 0.0


# What makes a covariance singular gives no finite likelihood; it is an error, tested below.
SINGULAR = ("wishart", "cross_spectra", "wishart of correlations", "fc_corr of a matrix")
REGULAR = [name for name in CASES if name not in SINGULAR]


def at(name, spoil):
    values, gradients = results(name)
    k = SPOILT.index(spoil) - len(SPOILT)
    return values[k], gradients[k]


@pytest.mark.parametrize("spoil", CONSTANT)
@pytest.mark.parametrize("name", REGULAR)
def test_what_does_not_vary_has_a_finite_value_and_gradient(name, spoil):
    found, gradient = at(name, spoil)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()
    # Rounding noise of a constant is not taken for a signal, which would have a gradient of 1e14. The spectrum of a
    # straight line spans 20 decades by itself.
    assert np.abs(gradient).max() < (1e11 if name.startswith("psd_log") and spoil is ramp else 1e6)


@pytest.mark.parametrize("name", [name for name in REGULAR if CASES[name].target is Y])
def test_equal_signals_have_a_finite_gradient(name):
    found, gradient = at(name, equal)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_samples_that_are_no_numbers(name):
    case = CASES[name]
    # Traced, a result that is not finite stays so, and no optimiser takes it for a good one.
    assert not np.isfinite(at(name, not_a_number)[0])
    with pytest.raises(ValueError, match=r"not finite|is nan"):
        value(case)(jnp.asarray(not_a_number(case.start)))
    if case.target is Y:
        spoilt = Y.copy()
        spoilt[7, 1] = np.nan
        with pytest.raises(
            ValueError, match=r"the target of .* has 1 values that are not finite, .* \(7, 1\)"
        ):
            jax.eval_shape(lambda x: case.objective(case.prediction(x), spoilt), case.start)


@pytest.mark.parametrize("name", ["wishart", "cross_spectra"])
def test_a_singular_prediction_of_a_likelihood_is_an_error(name):
    case = CASES[name]
    with pytest.raises(ValueError, match=f"{name} is nan .* a matrix that is not positive definite"):
        value(case)(jnp.asarray(silent_region(case.start)))
    assert np.isnan(at(name, silent_region)[0])


def test_a_ridge_makes_a_singular_prediction_usable():
    few = jnp.asarray(X[:3])
    with pytest.raises(ValueError, match="3 samples of 4 regions, so its covariance is singular"):
        o.wishart(20.0)(few, Y)
    found, gradient = jax.jit(jax.value_and_grad(lambda x: o.wishart(20.0, ridge=0.01)(x, Y)))(few)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


def test_the_likelihood_of_cross_spectra_has_exact_second_derivatives():
    rng = np.random.default_rng(3)

    def positive(n):
        a = rng.normal(size=(6, 4, n)) + 1j * rng.normal(size=(6, 4, n))
        return jnp.asarray(a @ a.conj().swapaxes(-1, -2) / n)

    first, second, data = positive(20), positive(20), positive(3)

    def loss(p):
        return o.whittle(p[0] * first + p[1] ** 2 * second, p[2] * data, jnp.arange(3.0, 9.0))

    p = jnp.array([0.8, 0.5, 1.2])
    hessian = jax.jit(jax.hessian(loss))(p)
    loss_of, gradient = jax.jit(loss), jax.jit(jax.grad(loss))
    steps = 1e-5 * np.eye(3)
    differences = np.array([(gradient(p + s) - gradient(p - s)) / 2e-5 for s in steps])
    # a step of 1e-5 leaves 1e-10 of the third derivative
    np.testing.assert_allclose(hessian, differences, rtol=0, atol=1e-7 * np.abs(differences).max())
    values = np.array([(loss_of(p + s) - loss_of(p - s)) / 2e-5 for s in steps])
    np.testing.assert_allclose(gradient(p), values, rtol=0, atol=1e-7 * np.abs(values).max())


def test_exact_metrics_refuse_to_be_differentiated():
    from brainloom.analysis import fc, fcd, peaks, spectra, synchrony

    fcds = np.corrcoef(np.random.default_rng(0).normal(size=(9, 5)))
    frequency = np.linspace(0, 25, 51)
    calls = {
        r"objectives\.fcd_ks\(\)": lambda x: fcd.fcd_ks(x[:9, None] * fcds, fcds, 2, 1),
        r"ks_distance is .*objectives\.fcd_ks\(\)": lambda x: fcd.ks_distance(x, np.ones(3)),
        r"objectives\.fcd\(\)": lambda x: fcd.fcd(x[:, None] * X, 40, 10),
        r"objectives\.fc_corr\(\)": lambda x: fc.functional_connectivity(x[:, None] * X),
        r"fc_rmse is .*objectives\.fc_rmse\(\)": lambda x: fc.fc_rmse(x[:5, None] * np.eye(5), np.eye(5)),
        r"peak_frequency .*objectives\.spectral_peak": lambda x: spectra.peak_frequency(
            x[:51], frequency, (5, 15)
        ),
        r"alpha_peak .*objectives\.spectral_peak": lambda x: peaks.alpha_peak(x[:51], frequency),
        r"objectives\.psd_log": lambda x: spectra.welch_psd(x[:, None] * X, DT, 100),
        r"objectives\.synchrony": lambda x: synchrony.metastability(x[:, None] * X, DT, band=(6, 14)),
    }
    for message, call in calls.items():
        for transform in (jax.grad, jax.jit):
            with pytest.raises(TypeError, match=message):
                transform(call)(jnp.ones(N_TIME))
