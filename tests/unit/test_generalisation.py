"""What was not fitted: the stationary null, the others' mean, pooled models, each against numbers computed here."""

import jax.numpy as jnp
import numpy as np
import pytest
from ou_cohort import FREQUENCY, SIGNAL, TR, N, draw, jacobian_of, weights_of
from small_fits import linear_setup

from brainloom.analysis.clean import band_power_gain
from brainloom.analysis.features import features, second_order_features
from brainloom.analysis.generalisation import SubjectFeatures, generalisation_rows
from brainloom.analysis.stationary import mean_features, surrogate_segments
from brainloom.cohort.pooled_features import pooled_features
from brainloom.cohort.pooled_model import PooledSetup
from brainloom.fit.problem import make_problem


@pytest.mark.parametrize("regress", [False, True])
def test_features_without_dynamics_are_the_features(regress):
    config = SIGNAL | {"global_signal_regression": regress}
    x = draw(jacobian_of(weights_of(1)), 500, 3)
    x[40:43] = np.nan  # scrubbed
    segments = [x[:300], x[300:]]
    every, found = features(segments, TR, config), second_order_features(segments, TR, config)
    for name in ("fc", "lag1", "psd", "variance"):
        np.testing.assert_allclose(found[name], every[name], rtol=1e-12, atol=1e-14, err_msg=name)


def test_surrogates_have_the_correlations_of_their_recording():
    x = draw(jacobian_of(weights_of(2)), 800, 4)
    x[100] = np.nan
    made = [surrogate_segments([x], [0, k]) for k in range(6)]
    assert all(np.isnan(one[0][100]).all() and np.isfinite(np.delete(one[0], 100, 0)).all() for one in made)
    assert np.nanmax(np.abs(made[0][0] - made[1][0])) > 0.5
    mean = mean_features([second_order_features(one, TR, SIGNAL) for one in made])
    own = second_order_features([x], TR, SIGNAL)
    # The spectrum of the sample is kept exactly; ends of the series and one filled frame move what follows from it.
    for name, atol in (("fc", 0.05), ("lag1", 0.05), ("variance", 0.05)):
        np.testing.assert_allclose(mean[name], own[name], atol=atol, err_msg=name)


def recorded(rng, frequency=FREQUENCY):
    def part():
        return {
            "lag1": np.tanh(rng.normal(size=(N, N))),
            "psd": rng.lognormal(size=(N, len(frequency))),
            "variance": rng.lognormal(size=N),
        }

    return SubjectFeatures({"train": part(), "test": part()}, {}, (300.0, 100.0), frequency, [0.01, 0.1])


def test_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    cohort = {label: recorded(rng) for label in ("01", "02", "03")}
    table = generalisation_rows(cohort, "LinearStep").set_index(["subject", "split", "predictor", "metric"])
    assert set(table.index.get_level_values("predictor")) == {"group_mean"}

    def whole(one, name, turn=lambda x: x):
        a, b = (turn(one.parts[split][name]) for split in ("train", "test"))
        return 0.75 * a + 0.25 * b

    def value(metric):
        return table.loc[("02", "test", "group_mean", metric), "value"]

    others, own = (cohort["01"], cohort["03"]), cohort["02"].parts["test"]
    z = lambda x: np.arctanh(np.clip(x, -0.999, 0.999))  # noqa: E731
    lag1 = np.tanh(np.mean([whole(one, "lag1", z) for one in others], axis=0))
    assert value("lag1_r") == pytest.approx(np.corrcoef(lag1.ravel(), own["lag1"].ravel())[0, 1], abs=1e-9)
    variance = np.mean([whole(one, "variance") for one in others], axis=0)
    assert value("variance_r") == pytest.approx(np.corrcoef(np.log(variance), np.log(own["variance"]))[0, 1])
    keep = (FREQUENCY >= 0.01) & (FREQUENCY <= 0.1)
    psd = np.log10(np.mean([whole(one, "psd") for one in others], axis=0)[:, keep])
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(psd, np.log10(own["psd"][:, keep]), strict=True)]
    assert value("psd_r") == pytest.approx(np.mean(expected))
    # recordings with other frequencies have no common mean of spectra
    cohort["03"] = recorded(rng, FREQUENCY[:-3])
    metrics = set(generalisation_rows(cohort, "LinearStep")["metric"])
    assert metrics == {"lag1_r", "variance_r"}
    assert generalisation_rows({"01": recorded(rng)}, "LinearStep").empty


def test_features_of_pooled_models_are_integrals_of_their_spectra():
    rng = np.random.default_rng(5)
    setup = PooledSetup(linear_setup(N), 2)
    config = {
        "model": {"name": "LinearStep", "parameters": {"gamma": -0.1}},
        "fit": {"lambda": 0.001, "margin": 0.01},
        "signal": {"band": [0.01, 0.1], "filter_order": 2},
    }
    weights = weights_of(1)
    problem = make_problem(
        setup.own, config, weights=weights, homotope=np.arange(N) ^ 1, fc=np.eye(N), lag1=np.eye(N),
        frequency_hz=np.full(N, 0.05), repetition_time=TR,
    )  # fmt: skip
    theta = 0.3 * rng.normal(size=setup.size)
    found = pooled_features(setup, problem, jnp.asarray(theta), jnp.asarray(FREQUENCY))
    gamma = -(problem["floor"] + (problem["rate"] - problem["floor"]) * np.exp(theta[2 : 2 + N]))
    homotopic = np.asarray(problem["homotopic"]) * float(problem["homotopic_start"]) * np.exp(theta[1])
    coupled = float(problem["coupling_start"]) * np.exp(theta[0]) * (weights + homotopic)
    jacobian = coupled + np.diag(np.asarray(gamma) - coupled.sum(1))
    noise, b = np.exp(theta[2 + N : 2 + 2 * N]), theta[2 + 2 * N :].reshape(N, 2)
    rate = np.diag(noise) @ (np.eye(N) + b @ b.T) @ np.diag(noise)

    def spectrum(frequency):
        transfer = np.linalg.inv(2j * np.pi * frequency[:, None, None] * np.eye(N) - jacobian)
        return transfer @ rate @ transfer.conj().transpose(0, 2, 1)

    fine = (np.arange(4000) + 0.5) / 4000 * 0.5 / TR
    seen = spectrum(fine) * band_power_gain(fine, TR, (0.01, 0.1))[:, None, None]
    covariance = seen.real.mean(axis=0)
    lagged = (seen * np.exp(2j * np.pi * fine * TR)[:, None, None]).real.mean(axis=0)
    scale = np.sqrt(np.diag(covariance))
    # Gauss-Legendre nodes against midpoints; the nodes leave out where the filter passes a thousandth of the power
    np.testing.assert_allclose(found["lag1"], lagged / np.outer(scale, scale), atol=2e-3)
    variance = np.diag(covariance)
    np.testing.assert_allclose(found["variance"], variance / variance.mean(), rtol=2e-3)
    psd = np.diagonal(spectrum(FREQUENCY).real, axis1=1, axis2=2).T
    psd = psd / (psd.sum(axis=1, keepdims=True) * (FREQUENCY[1] - FREQUENCY[0]))
    np.testing.assert_allclose(found["psd"], psd, rtol=1e-9)
