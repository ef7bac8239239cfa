"""
A planted field of 80 values is found again, and 90 % intervals of noisy data hold the truth nine times in ten.

The network is linear, so its recordings are drawn exactly: an autoregressive process of order 1 with the covariance and
the lagged covariance of the stationary Ornstein-Uhlenbeck process, sampled every TR. Frames depend on each other, and the
likelihood is told only of their effective number.
"""

from __future__ import annotations

import brainloom.models  # before brainstate

# isort: split
import jax.numpy as jnp
import numpy as np
import pytest

import brainloom
from brainloom import Fitter, objectives
from brainloom.fit import parameters as P
from brainloom.linear.jacobian import network_jacobian
from brainloom.linear.measured import stationary_covariance
from brainloom.linear.symmetric import LyapunovKernel, spectral_covariance

N, TR, FRAMES, SUBJECTS = 80, 2.0, 600, 40
RATE, COUPLING, SPREAD = -0.3, 0.3, 0.4
LEVEL = 0.9


def weights() -> np.ndarray:
    rng = np.random.default_rng(1)
    found = rng.lognormal(sigma=0.8, size=(N, N))
    found = (found + found.T) * (1.0 - np.eye(N))
    return found / found.sum(axis=1).mean()


def network(**fields) -> brainloom.Network:
    """Noise amplitudes and rates are log-normal over regions."""
    node = brainloom.LinearStep(N, time_unit="s", **({"gamma": RATE, "noise_x": 1.0} | fields))
    return brainloom.Network(node, conn=weights(), coupling="diffusive", k=COUPLING)


def planted_prior(median: float) -> P.Gaussian:
    return P.Gaussian(median, SPREAD, space="unconstrained")


def predict(model) -> objectives.Covariance:
    """The stationary covariance; the Jacobian of this network is symmetric, so one eigendecomposition gives it."""
    values = model.parameter_values()
    jacobian = network_jacobian(model.structure("exp_euler", 0.1), values, {"x": jnp.zeros(N)})
    noise = jnp.diag(jnp.broadcast_to(values["noise_x"], (N,)) ** 2)
    return objectives.Covariance(spectral_covariance(jacobian, noise, LyapunovKernel()))


def recordings(covariances: np.ndarray, jacobian: np.ndarray, seed: int) -> np.ndarray:
    """(subject, frame, region) exact samples of the network."""
    rng = np.random.default_rng(seed)
    value, vector = np.linalg.eigh(jacobian)
    lag = vector * np.exp(value * TR) @ vector.T
    kick = np.linalg.cholesky(covariances - lag @ covariances @ lag.T)
    x = np.einsum("sij,sj->si", np.linalg.cholesky(covariances), rng.normal(size=(len(covariances), N)))
    frames = []
    for _ in range(FRAMES):
        frames.append(x)
        x = x @ lag.T + np.einsum("sij,sj->si", kick, rng.normal(size=x.shape))
    return np.stack(frames, axis=1)


def test_the_short_way_to_the_covariance_is_that_of_linear_theory():
    model = network(noise_x=np.linspace(0.5, 2.0, N))
    structure = model.structure("exp_euler", 0.1)
    theory = stationary_covariance(structure, model.parameter_values(), {"x": jnp.zeros(N)}, ("x",))
    np.testing.assert_allclose(predict(model).matrix, theory, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "median"), [("noise_x", 1.0), ("gamma", -RATE)])
def test_a_planted_field_is_found_from_noise_free_features(name, median):
    sign = -1.0 if name == "gamma" else 1.0
    truth = median * np.exp(SPREAD * np.random.default_rng(2).normal(size=N))
    target = predict(network(**{name: sign * truth})).matrix
    start = P.positive(np.full(N, median), prior=planted_prior(median))
    model = network(**{name: P.tied(start, factor=sign)})
    fitter = Fitter(model, predict=predict, objective=objectives.wishart(), backend="scipy")
    fitter.fit(objectives.Covariance(target, float(FRAMES)), n_steps=100)
    found = sign * np.asarray(model.parameter_values()[name])
    assert np.corrcoef(np.log(found), np.log(truth))[0, 1] > 0.95


def test_intervals_hold_the_truth_as_often_as_they_say():
    log_truth = SPREAD * np.random.default_rng(3).normal(size=(SUBJECTS, N))
    plain = network()
    jacobian = np.asarray(
        network_jacobian(plain.structure("exp_euler", 0.1), plain.parameter_values(), {"x": jnp.zeros(N)})
    )
    value, vector = np.linalg.eigh(jacobian)
    kernel = -1.0 / (value[:, None] + value)
    noise = np.exp(2.0 * log_truth)
    covariances = vector @ (np.einsum("ri,sr,rj->sij", vector, noise, vector) * kernel) @ vector.T
    series = recordings(covariances, jacobian, seed=4)

    model = network(noise_x=P.positive(np.ones(N), prior=planted_prior(1.0)))
    fitter = Fitter(model, predict=predict, objective=objectives.wishart(), backend="scipy")
    hits, squares, alike, dof = [], [], [], []
    for truth, frames in zip(np.exp(log_truth), series, strict=True):
        model.node.noise_x.set_value(np.ones(N))
        assert fitter.fit(frames, n_steps=100).converged
        found = fitter.identify(frames, method="gauss_newton", level=LEVEL, chunk=N)
        one = found.estimates["node.noise_x"]
        known = found.identified("node.noise_x") == "yes"
        hits += list(((one.lower < truth) & (truth < one.upper))[known])
        squares += list((((np.log(one.value) - np.log(truth)) / found.sd) ** 2)[known])
        alike.append(np.corrcoef(np.log(one.value), np.log(truth))[0, 1])
        dof.append(float(objectives.likelihood.effective_dof(jnp.asarray(frames)[:, None])))
    # frames are not independent
    assert 400.0 < np.mean(dof) < 550.0
    assert len(hits) > 0.9 * SUBJECTS * N
    assert min(alike) > 0.95
    print(
        f"{np.mean(hits):.3f} of {len(hits)} intervals, rms z {np.mean(squares) ** 0.5:.3f}, dof {np.mean(dof):.0f}"
    )
    assert 0.85 < np.mean(hits) < 0.95
    # errors of the right size, not intervals that are right by a shape of their own
    assert 0.9 < np.mean(squares) ** 0.5 < 1.1
