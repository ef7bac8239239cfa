"""Fits of small networks: right at known parameters, stable by construction, and the same every time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov
from small_fits import (
    HOMOTOPE,
    LABELS,
    TR,
    N,
    connectome,
    exact_targets,
    fits_of,
    small_config,
    subject_fit,
    subject_inputs,
    true_theta,
)

from brainloom.fit.gauge import fix_gauge
from brainloom.fit.predict import (
    constrained,
    correlation,
    covariance,
    functional_connectivity,
    jacobian_and_noise,
)
from brainloom.fit.problem import setup_from_config
from brainloom.fit.space import FitSpace
from brainloom.fit.subject import subject_problem, subject_setup

MODELS = ["LinearStep", "HopfStep"]
ALL_FIELDS = {"regional": ["local", "noise", "gain_in", "gain_out"]}


def case(model, subject="1"):
    config, wiring, recorded = subject_inputs(model, subject)
    setup = subject_setup(config, wiring)
    return setup, subject_problem(setup, config, wiring, recorded), true_theta(setup, subject)


@pytest.mark.parametrize("through_band", [False, True])
def test_one_eigendecomposition_equals_the_general_solution(through_band):
    config, problem = (
        small_config("LinearStep", through_band=through_band, **ALL_FIELDS),
        case("LinearStep")[1],
    )
    theta = 0.5 * np.random.default_rng(0).normal(size=(5, 2 + 4 * N))
    symmetric, general = (setup_from_config(config, N, symmetric=each) for each in (True, False))

    @jax.jit
    @jax.vmap
    def both(x):
        return [functional_connectivity(setup, problem, x) for setup in (symmetric, general)]

    found = both(theta)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-11)
    assert np.ptp(found[0], axis=0).max() > 0.05  # the five differ


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_point_of_the_space_is_a_stable_network(model, symmetric):
    setup = setup_from_config(small_config(model, **ALL_FIELDS), N, symmetric=symmetric)
    problem = case(model)[1] | {"weights": connectome("3", symmetric=symmetric)["weights"].values}

    @jax.jit
    @jax.vmap
    def jacobian(x):
        return jacobian_and_noise(setup, problem, constrained(setup, problem, x))[0]

    rng = np.random.default_rng(1)
    theta = np.concatenate([size * rng.normal(size=(40, setup.space.size)) for size in (0.3, 1.0, 3.0)])
    jacobians = np.asarray(jacobian(theta))
    size = np.abs(jacobians).max(axis=(1, 2))  # eigenvalues have rounding errors of this times 1e-15
    margins = -np.linalg.eigvals(jacobians).real.max(axis=1)
    assert (margins > 0.01 - 1e-13 * size).all()
    assert (margins < 0.03).any()  # the draws reach the floor


@pytest.mark.parametrize("model", MODELS)
def test_without_a_penalty_the_true_parameters_come_back(model):
    setup, problem, truth = case(model)
    starts = setup.space.starts(2, jax.random.key(0))
    for fit in fits_of(setup, problem | {"penalty": np.asarray(0.0)}, starts):
        theta = fit.theta
        assert fit.loss < 1e-10 * fit.history[0]
        noise = slice(2 + N, 2 + 2 * N)
        off = theta - truth
        off[noise] -= off[noise].mean()  # FC does not tell the scale of the noise
        np.testing.assert_allclose(off, 0.0, atol=1e-3)  # 1e-5 of the loss in the sloppiest direction


@pytest.mark.parametrize("model", MODELS)
def test_the_penalty_moves_only_what_the_target_leaves_open(model):
    fit, (setup, problem, truth) = subject_fit(model), case(model)
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    assert best["final_loss"] < 1e-4 * best["loss"][0]
    off = best["theta"].values - truth
    assert np.abs(off[1]) < 0.01 and np.abs(off[2 + N :]).max() < 0.03  # homotopic weight, noise
    np.testing.assert_allclose(best["fc_model"], exact_targets(setup, problem, truth)[0], atol=2e-3)
    assert np.sum(best["theta"].values ** 2) < np.sum(truth**2)


def test_starts_follow_from_the_key_and_their_number_alone():
    space = FitSpace(("coupling", "homotopic"), ("local", "noise"), N)
    five, again = space.starts(5, jax.random.key(3)), space.starts(5, jax.random.key(3))
    np.testing.assert_array_equal(five, again)
    np.testing.assert_allclose(five[:, 0], [-1.0, -0.5, 0.0, 0.5, 1.0])
    np.testing.assert_array_equal(five[:, 1], 0.0)
    np.testing.assert_array_equal(space.starts(3, jax.random.key(3))[:, 2:], five[:3, 2:])
    np.testing.assert_array_equal(space.starts(1, jax.random.key(3))[0, 0], 0.0)
    assert np.abs(space.starts(5, jax.random.key(4)) - five)[:, 2:].min() > 0
    assert 0.03 < np.std(five[:, 2:]) < 0.07


def test_coordinates_have_names_and_places():
    space = FitSpace(("coupling",), ("local", "gain_in"), 2)
    assert space.labels(["A", "B"], local="gamma") == [
        "coupling",
        "gamma[A]",
        "gamma[B]",
        "gain_in[A]",
        "gain_in[B]",
    ]
    log = space.unpack(jnp.arange(1.0, 6.0))
    assert float(log["coupling"]) == 1.0 and float(log["homotopic"]) == 0.0
    assert {k: v.tolist() for k, v in log.items() if v.ndim} == {
        "local": [2.0, 3.0], "noise": [0.0, 0.0], "gain_in": [4.0, 5.0], "gain_out": [0.0, 0.0],
    }  # fmt: skip


def test_a_start_without_a_finite_objective_is_not_taken():
    setup, problem, _ = case("LinearStep")
    starts = setup.space.starts(2, jax.random.key(0)).at[0].set(1e4)  # overflows
    lost, found = fits_of(setup, problem, starts)
    assert np.isnan(lost.loss) and not lost.converged
    assert found.loss < 1e-4


@pytest.mark.parametrize("noise_level, saturation", [(0.1, 1.0), (0.02, 5.0)])
def test_gauge_of_the_hopf_model(noise_level, saturation):
    setup, problem, theta = case("HopfStep")
    values = fix_gauge(setup, problem, theta, noise_level, saturation)
    jacobian, noise = (np.asarray(x) for x in jacobian_and_noise(setup, problem, values))
    variance = np.diag(solve_continuous_lyapunov(jacobian, -np.diag(noise).astype(complex))).real
    reach = np.asarray(values["beta"]) * variance / np.abs(values["local"])
    np.testing.assert_allclose(reach, noise_level, rtol=1e-10)  # in every region, so in the median too
    np.testing.assert_allclose(np.median(values["beta"]), saturation, rtol=1e-12)
    free = constrained(setup, problem, theta)
    fc = [correlation(covariance(setup, problem, v)) for v in (values, free)]
    np.testing.assert_allclose(fc[0], fc[1], rtol=0, atol=1e-12)
    assert np.ptp(values["noise"] / free["noise"]) < 1e-12 * values["noise"].max()  # one factor for all


def test_gauge_of_the_linear_model():
    setup, problem, theta = case("LinearStep")
    values = fix_gauge(setup, problem, theta, 0.1, 1.0)
    jacobian, noise = (np.asarray(x) for x in jacobian_and_noise(setup, problem, values))
    np.testing.assert_allclose(
        np.diag(solve_continuous_lyapunov(jacobian, -np.diag(noise))).mean(), 1.0, rtol=1e-12
    )
    assert "beta" not in values


@pytest.mark.parametrize("model, local, rate", [("LinearStep", "gamma", 0.1), ("HopfStep", "a", 0.05)])
def test_dataset_of_a_fit(model, local, rate):
    fit, (_, wiring, recorded) = subject_fit(model), subject_inputs(model)
    best = int(fit["best_start"].sel(predictor="model"))
    at = fit.sel(predictor="model").isel(start=best)
    theta = dict(zip(at["coordinate"].values, at["theta"].values, strict=True))
    value = {str(p): at["estimate"].sel(parameter=p).values for p in at["parameter"].values}
    np.testing.assert_allclose(value["coupling"], 10 * rate * np.exp(theta["coupling"]), rtol=1e-12)
    np.testing.assert_allclose(value["homotopic"], 0.5 * np.exp(theta["homotopic"]), rtol=1e-12)
    logs = np.array([theta[f"{local}[{label}]"] for label in LABELS])
    np.testing.assert_allclose(value[local], -(0.01 + (rate - 0.01) * np.exp(logs)), rtol=1e-12)
    relative = np.exp([theta[f"noise[{label}]"] for label in LABELS])
    assert np.ptp(value["noise"] / relative) < 1e-10 * value["noise"].max()
    np.testing.assert_array_equal(value["gain_in"], 1.0)
    assert dict(zip(at["parameter"].values, at["fitted"].values, strict=True))["gain_in"] == np.False_

    mirror = np.eye(N)[HOMOTOPE]
    weights = value["coupling"] * (wiring["weights"].values + value["homotopic"] * mirror)
    jacobian = (
        weights
        - np.diag(weights.sum(axis=1))
        + np.diag(value[local] + 2j * np.pi * fit["frequency_hz"].values)
    )
    margin = -np.linalg.eigvals(jacobian).real.max()
    np.testing.assert_allclose(fit["stability_margin"].sel(predictor="model"), margin, rtol=1e-9)
    np.testing.assert_allclose(
        fit["frequency_hz"], recorded["peak_frequency"] if model == "HopfStep" else 0.0
    )

    np.testing.assert_allclose(fit["variance_model"].mean("region"), 1.0, rtol=1e-12)
    step = float(fit["frequency"][1] - fit["frequency"][0])
    np.testing.assert_allclose(fit["psd_model"].sum("frequency") * step, 1.0, rtol=1e-12)
    np.testing.assert_allclose(at["lag1_model"], recorded["lag1"].sel(split="train"), atol=0.05)
    history = at["loss"].values
    n_steps = int(at["n_steps"])
    assert np.isfinite(history[:n_steps]).all() and np.isnan(history[n_steps:]).all()
    assert float(at["final_loss"]) <= np.nanmin(history) and bool(at["converged"])
    assert float(at["final_loss"]) == fit["final_loss"].sel(predictor="model").min()
    assert fit["psd_model"].dims[-1] == "frequency" and fit.attrs["repetition_time"] == TR
