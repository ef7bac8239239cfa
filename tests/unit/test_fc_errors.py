"""Errors of estimates against the spread of real refits, and the limits that theory knows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_fits import LABELS, N, connectome, small_config, subject_fit, subject_inputs

from brainloom.cohort.batch import Settings, fit_batch
from brainloom.fit.fc_errors import laplace
from brainloom.fit.posterior import posterior_dataset
from brainloom.fit.predict import functional_connectivity, objective
from brainloom.fit.problem import make_problem, setup_from_config
from brainloom.fit.subject import gauged, subject_problem, subject_setup

NU, PRIOR_SD = 400.0, 0.3


@pytest.fixture(scope="module")
def one_field():
    """A linear network with two fitted fields of which the data see one and a half: noise, but not its scale."""
    config = small_config(
        "LinearStep", regional=["noise"], **{"global": ["coupling", "homotopic"], "lambda": 2e-3}
    )
    setup = setup_from_config(config, N, symmetric=True)
    flat = {"fc": np.eye(N), "lag1": np.eye(N), "frequency_hz": np.zeros(N), "repetition_time": 2.0}
    weights = connectome("4")["weights"].values
    return setup, make_problem(setup, config, weights=weights, homotope=np.full(N, -1), **flat)


def sampled_correlation(fc, rng):
    """Correlations of a Gaussian sample with NU degrees of freedom."""
    return np.corrcoef(np.linalg.cholesky(fc) @ rng.normal(size=(N, int(NU) + 1)))


def refits(setup, problem, truths, rng):
    """Estimate of each true point from its own sample."""
    model_fc = jax.jit(jax.vmap(lambda theta: functional_connectivity(setup, problem, theta)))
    problems = [problem | {"fc": sampled_correlation(fc, rng)} for fc in np.asarray(model_fc(truths))]
    return np.stack([one.theta for one in fit_batch(objective, setup, problems, truths, Settings(400))])


def test_errors_of_refits_have_the_stated_size(one_field):
    """Truth from the prior, data from the truth, estimate from the data: squared error over variance has mean 1."""
    setup, problem = one_field
    rng = np.random.default_rng(0)
    truths = PRIOR_SD * rng.normal(size=(100, setup.space.size))
    found = refits(setup, problem, truths, rng)
    errors = jax.jit(jax.vmap(lambda theta: laplace(setup, problem, theta, NU, PRIOR_SD).sd))
    ratio = ((found - truths) / np.asarray(errors(found))) ** 2
    # 100 draws of a chi-square: standard error 0.14 per coordinate, about 0.05 for their mean
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.2)
    np.testing.assert_allclose(ratio.mean(axis=0), 1.0, atol=0.6)


def test_sampling_error_alone(one_field):
    """Where the penalty pulls nothing (the truth is at its centre), the error is that of the correlations."""
    setup, problem = one_field
    truths = np.zeros((150, setup.space.size))
    found = refits(setup, problem, truths, np.random.default_rng(1))
    stated = np.asarray(laplace(setup, problem, truths[0], NU, 0.0).sd)
    spread = np.sqrt(np.mean(found**2, axis=0))
    homotopic = setup.space.global_names.index("homotopic")
    keep = np.arange(len(spread)) != homotopic  # no region has a mirror region here
    np.testing.assert_allclose(spread[keep] / stated[keep], 1.0, atol=0.25)  # standard error 0.06
    assert spread[homotopic] < 1e-6 and stated[homotopic] < 1e-6


def test_a_coordinate_without_influence_keeps_the_prior(one_field):
    setup, problem = one_field
    theta = 0.2 * np.random.default_rng(2).normal(size=setup.space.size)
    sd = np.asarray(laplace(setup, problem, theta, NU, PRIOR_SD).sd)
    assert sd[1] == pytest.approx(PRIOR_SD, rel=1e-9)  # homotopic weight, without homotopic pairs
    assert (np.delete(sd, 1) < 0.7 * PRIOR_SD).all()
    stiff = np.asarray(laplace(setup, problem | {"penalty": np.asarray(1e3)}, theta, NU, PRIOR_SD).sd)
    np.testing.assert_allclose(stiff, PRIOR_SD, rtol=1e-3)  # a penalty that outweighs the data ignores them


def test_more_data_shrink_only_the_sampling_error(one_field):
    setup, problem = one_field
    theta = 0.2 * np.random.default_rng(2).normal(size=setup.space.size)
    little, much, endless = (
        np.asarray(laplace(setup, problem, theta, nu, PRIOR_SD).sd) for nu in (100.0, 400.0, 1e12)
    )
    np.testing.assert_allclose((little**2 - endless**2)[2:], 4 * (much**2 - endless**2)[2:], rtol=1e-6)


def test_fisher_information(one_field):
    """Eigenvalues against the Fisher matrix of a Gaussian sample, with all variances eliminated as nuisance."""
    setup, problem = one_field
    theta = 0.2 * np.random.default_rng(2).normal(size=setup.space.size)
    found = laplace(setup, problem, theta, NU, PRIOR_SD)
    value, vectors = np.asarray(found.eigenvalue), np.asarray(found.eigenvector)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(theta)), atol=1e-12)
    assert (np.diff(value) <= 0).all()
    assert value.min() > -1e-9 * value.max()
    # two exact freedoms: the homotopic weight of no pair, and the scale of the noise
    assert (value[-2:] < 1e-7 * value.max()).all() and value[-3] > 1e-4 * value.max()

    def covariance(flat):
        scale = jnp.exp(flat[len(theta) :])
        return functional_connectivity(setup, problem, flat[: len(theta)]) * scale[:, None] * scale[None, :]

    flat = np.concatenate([theta, np.zeros(N)])
    inverse = np.linalg.inv(covariance(flat))
    slopes = inverse @ np.moveaxis(np.asarray(jax.jacfwd(covariance)(flat)), -1, 0)
    full = 0.5 * NU * np.einsum("pij,qji->pq", slopes, slopes)
    n = len(theta)
    expected = full[:n, :n] - full[:n, n:] @ np.linalg.solve(full[n:, n:], full[n:, :n])
    np.testing.assert_allclose(
        vectors.T @ np.diag(value) @ vectors, expected, rtol=0, atol=1e-7 * value.max()
    )
    twice = laplace(setup, problem, theta, 2 * NU, PRIOR_SD).eigenvalue
    np.testing.assert_allclose(twice[:-2], 2 * value[:-2], rtol=1e-9)


@pytest.fixture(scope="module", params=["LinearStep", "HopfStep"])
def posterior(request):
    config, wiring, recorded = subject_inputs(request.param)
    fit = subject_fit(request.param)
    return posterior_dataset(wiring, recorded, fit, config), fit, (wiring, recorded, config)


def test_intervals_contain_the_estimates(posterior):
    found, fit, _ = posterior
    local = fit.attrs["local_parameter"]
    assert found["parameter"].values.tolist() == ["coupling", "homotopic", local, "noise"]
    assert found["scope"].values.tolist() == ["global", "global", "regional", "regional"]
    best = fit["estimate"].sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    np.testing.assert_array_equal(found["estimate"], best.sel(parameter=found["parameter"]))
    assert (found["lower"] < found["estimate"]).all() and (found["estimate"] < found["upper"]).all()
    assert (found["upper"].sel(parameter=local) < 0).all()  # stable over the whole interval
    for name in ("coupling", "homotopic"):
        assert np.ptp(found["upper"].sel(parameter=name).values) == 0
    # 90 %: 1.645 standard errors of the log to either side
    logs = [np.log(found[end].sel(parameter="noise")) for end in ("lower", "estimate", "upper")]
    sd = found["sd"].sel(parameter="noise")
    np.testing.assert_allclose(logs[2] - logs[1], 1.6448536 * sd, rtol=1e-6)
    np.testing.assert_allclose(logs[1] - logs[0], 1.6448536 * sd, rtol=1e-6)


def test_labels_follow_the_contraction(posterior):
    found, _, (wiring, recorded, config) = posterior
    others = found.drop_sel(parameter="noise")  # the prior of the noise counts its scale, too
    np.testing.assert_allclose(
        others["contraction"], 1.0 - others["sd"] / config["identify"]["prior_sd"], rtol=1e-12
    )
    seen = []
    for prior_sd in (0.05, 1.0, 20.0):  # a wide prior makes the same error look small
        settings = config | {"identify": config["identify"] | {"prior_sd": prior_sd}}
        each = posterior_dataset(wiring, recorded, posterior[1], settings)
        share, label = each["contraction"].values, each["identified"].values
        np.testing.assert_array_equal(label == "yes", share >= 0.5)
        np.testing.assert_array_equal(label == "no", share < 0.1)
        np.testing.assert_array_equal(label == "weak", (share >= 0.1) & (share < 0.5))
        seen.extend(label.ravel())
    assert set(seen) == {"yes", "weak", "no"}


def test_directions_have_names(posterior):
    found, fit, _ = posterior
    local = fit.attrs["local_parameter"]
    expected = [
        "coupling",
        "homotopic",
        *(f"{name}[{label}]" for name in (local, "noise") for label in LABELS),
    ]
    assert found["coefficient"].values.tolist() == expected
    assert found["eigenvalue"].shape == (2 + 2 * N,) and (np.diff(found["eigenvalue"]) <= 0).all()
    # the last direction is the scale of the noise, which FC does not tell
    last = found["eigenvector"].isel(direction=-1).values
    assert np.abs(last[: 2 + N]).max() < 1e-3
    np.testing.assert_allclose(np.abs(last[2 + N :]), 1 / np.sqrt(N), rtol=1e-3)


def test_another_level_gives_another_interval(posterior):
    found, fit, (wiring, recorded, config) = posterior
    wide = posterior_dataset(
        wiring, recorded, fit, config | {"identify": config["identify"] | {"level": 0.99}}
    )
    assert (wide["upper"] > found["upper"]).all() and (wide["lower"] < found["lower"]).all()
    assert wide.attrs["level"] == 0.99


@pytest.mark.parametrize("model", ["LinearStep", "HopfStep"])
def test_errors_of_the_noise_count_the_scale_that_the_gauge_gives_it(model):
    """Draws of the coordinates with the stated errors, each in its own gauge: their spread is the stated one."""
    config, wiring, recorded = subject_inputs(model)
    fit = subject_fit(model)
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    setup = subject_setup(config, wiring)
    problem = subject_problem(setup, config, wiring, recorded)
    theta = best["theta"].values
    found = laplace(setup, problem, jnp.asarray(theta), 4000.0, 0.02)
    recorded = recorded.assign(effective_dof=recorded["effective_dof"] * 0.0 + 4000.0)
    stated = posterior_dataset(
        wiring, recorded, fit, config | {"identify": config["identify"] | {"prior_sd": 0.02}}
    )["sd"].sel(parameter="noise")
    root = np.linalg.cholesky(np.asarray(found.error) + 1e-16 * np.eye(len(theta)))
    small = 0.05  # errors are those of the linearised gauge
    draws = theta + small * np.random.default_rng(5).normal(size=(2000, len(theta))) @ root.T
    noise = jax.jit(jax.vmap(lambda at: jnp.log(gauged(setup, problem, at, config)["noise"])))(draws)
    # the standard error of a standard deviation of 2000 draws is 1.6 %
    np.testing.assert_allclose(np.std(noise, axis=0) / small, stated, rtol=0.08)
    unscaled = setup.space.unpack(jnp.asarray(found.sd))["noise"]
    assert np.abs(stated / unscaled - 1.0).max() > 0.1  # the scale matters
