"""Coloured noise: spectra along time, exact variance from the start, single precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noise_paths import signal_of, values
from scipy import signal

import brainloom.models  # noqa: F401  before brainstate, which resets the precision
from brainloom import noise

COLOURS = {1.0: noise.PinkNoise, 2.0: noise.BrownNoise, -1.0: noise.BlueNoise, -2.0: noise.VioletNoise}


def coloured(beta, f_min, **options):
    if beta == -2.0:
        return noise.VioletNoise(sigma=1.0, **options)
    if beta in COLOURS:
        return COLOURS[beta](sigma=1.0, f_min=f_min, **options)
    return noise.ColouredNoise(beta, sigma=1.0, f_min=f_min, **options)


@pytest.mark.parametrize("beta", sorted(COLOURS))
def test_spectral_slopes_along_time(beta):
    """Welch spectra of 32 paths, dt 1 ms, band 1 Hz to 500 Hz: slope -beta within 0.1 by two kinds of fit."""
    x = signal_of(coloured(beta, 1.0), 2**15, 32, 1.0)
    # a window with low sidelobes: those of Hann windows hide the low end of violet noise
    frequency, power = signal.welch(x, fs=1000.0, window="blackmanharris", nperseg=2**13, axis=0)
    power = power.mean(axis=1)
    band = (frequency >= 1.0) & (frequency < 500.0)
    logf, logp = np.log(frequency[band]), np.log(power[band])
    assert np.polyfit(logf, logp, 1)[0] == pytest.approx(-beta, abs=0.1)  # the top of the band weighs most
    assert np.polyfit(logf, logp, 1, w=np.sqrt(1 / frequency[band]))[0] == pytest.approx(-beta, abs=0.1)
    decade = frequency[band] < 10.0
    # 32 * 7 segments, 74 bins of the lowest decade: standard error 0.015
    assert np.polyfit(logf[decade], logp[decade], 1)[0] == pytest.approx(-beta, abs=0.1)


BANDS = [(0.01, 0.1), (0.01, 1.0), (20.0, 1.0), (1.0, 20.0)]  # f_min in Hz, dt in ms


@pytest.mark.parametrize(
    ("beta", "n_poles"),
    [(1.0, 6), (1.0, 8), (2.0, 6), (-1.0, 6), (-1.0, 8), (-2.0, 6), (0.3, 6), (1.7, 6), (-1.6, 6)],
)
def test_response_follows_the_law_up_to_the_nyquist_frequency(beta, n_poles):
    """The exact frequency response, from the matrices of the step."""
    process = noise.ColouredNoise(beta, sigma=1.0, n_poles=n_poles)
    structure, kind = process.structure(), type(process)
    names = [f"section_{k}" for k in range(kind.n_start(structure) - 1)]
    n = len(names)

    @jax.jit
    @jax.vmap
    def matrix(f_min, dt):
        """The step is linear: its columns are what comes of each section and of the draw alone."""
        p = kind.prepare(structure, values(process) | {"f_min": f_min / 1000.0}, dt)
        unit = jnp.eye(n + 1)
        new = kind.advance(structure, p, dict(zip(names, unit, strict=False)), unit[n], dt)
        return jnp.stack([*(new[name] for name in names), new["value"]])

    for found, (f_min, dt) in zip(np.asarray(matrix(*np.array(BANDS).T)), BANDS, strict=True):
        a, b, c, d = found[:n, :n], found[:n, n], found[n, :n], found[n, n]
        # unit covariance of the sections is stationary, so the variance of the output is c c^T + d^2 = sigma^2
        np.testing.assert_allclose(a @ a.T + np.outer(b, b), np.eye(n), atol=1e-12)
        assert c @ c + d**2 == pytest.approx(1.0, rel=1e-12)
        frequency = np.geomspace(f_min, 500.0 / dt, 200)
        z = np.exp(2j * np.pi * frequency * dt / 1000.0)
        inverse = np.linalg.solve(z[:, None, None] * np.eye(n) - a, np.broadcast_to(b, (200, n))[..., None])
        error = 10 * np.log10(np.abs(d + inverse[..., 0] @ c) ** 2 * frequency**beta)
        assert np.ptp(error) < (0.6 if n_poles == 8 else 1.0)  # dB, as documented
        for start in np.arange(0.0, np.log10(frequency[-1] / f_min) - 1 + 1e-9, 0.25):
            decade = (frequency >= f_min * 10**start * 0.999) & (
                frequency <= f_min * 10 ** (start + 1) * 1.001
            )
            slope = np.polyfit(np.log10(frequency[decade]), error[decade] / 10, 1)[0]
            assert abs(slope) < 0.1, (f_min, dt, start)


@pytest.mark.parametrize("beta", sorted(COLOURS))
def test_coloured_variance_is_sigma_squared_from_the_start(beta, dt=4.0):
    options = {} if beta == -2.0 else {"f_min": 25.0}
    process = COLOURS[beta](sigma=np.full(2000, 0.3), mean=0.1, **options)
    x = signal_of(process, 400, 2000, dt) - 0.1
    # one time point: 2,000 independent regions, relative error 0.032; four of them. All: at least 10 of these
    for step in (0, 1, 2, 400):
        assert np.mean(x[step] ** 2) == pytest.approx(0.09, rel=0.13), step
    assert np.mean(x**2) == pytest.approx(0.09, rel=0.04)
    # stationary two-time law across the start: the correlation of steps 0 and 1 is that of steps 300 and 301
    early = np.mean(x[0] * x[1]) / 0.09
    late = np.mean(x[300:-1] * x[301:]) / 0.09
    assert early == pytest.approx(late, abs=0.13)


def test_coloured_start_without_dt_has_the_right_variance():
    process = noise.PinkNoise(sigma=0.3, f_min=25.0, n_poles=2)
    x = signal_of(process, 50, 20_000, 1.0, prepared=False)
    for step in (0, 1, 50):
        assert np.mean(x[step] ** 2) == pytest.approx(0.09, rel=0.04)  # four standard errors of 0.01


def test_coloured_filters_in_single_precision():
    """Six decades below the Nyquist frequency, where the slowest pole rounds to 1 in float32."""
    process = noise.PinkNoise(sigma=1.0, f_min=0.01)
    kind, structure = type(process), process.structure()
    random = np.random.default_rng(0)
    starts, draws = random.normal(size=(kind.n_start(structure), 20)), random.normal(size=(20_000, 20))

    @jax.jit
    def run(params, starts, draws, dt):
        p = kind.prepare(structure, params, dt)

        def step(state, draw):
            new = kind.advance(structure, p, state, draw, dt)
            return new, new["value"]

        return jax.lax.scan(step, kind.start(structure, p, starts), draws)[1]

    single, double = (
        np.asarray(
            run(*jax.tree.map(lambda x, t=dtype: jnp.asarray(x, t), (values(process), starts, draws, 0.1)))
        )
        for dtype in (np.float32, np.float64)
    )
    assert single.dtype == np.float32
    # rounding errors of 6e-8 add up as a random walk over the memory of the slowest section, 6e5 steps
    assert np.abs(single - double).max() < 1e-4
