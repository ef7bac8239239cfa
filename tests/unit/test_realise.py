"""Simulations of fitted subjects against the linear theory that they were fitted with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov
from small_fits import TR, N, subject_fit, subject_inputs

from brainloom.analysis.clean import band_power_gain
from brainloom.analysis.fc import average_correlations
from brainloom.analysis.features import features
from brainloom.core.errors import DataError
from brainloom.fit.predict import constrained, jacobian_and_noise
from brainloom.fit.realise import fastest_rate, fitted_network, simulate_subject, stationary_start
from brainloom.fit.subject import subject_problem, subject_setup
from brainloom.linear.jacobian import network_jacobian

MODELS = ["LinearStep", "HopfStep"]
SMALL, MAIN = 0.001, 0.1


def linearised(model, level=MAIN):
    """Real Jacobian and noise covariance of the simulated network at the origin."""
    _, wiring, _ = subject_inputs(model)
    network = fitted_network(wiring, subject_fit(model), level / MAIN)
    structure, params = network.structure("stochastic_heun", 1.0), network.parameter_values()
    names = network.node.state_names()
    jacobian = network_jacobian(structure, params, {name: jnp.zeros(N) for name in names})
    amplitude = np.concatenate([params[f"noise_{name}"] for name in names])
    return np.asarray(jacobian), np.diag(amplitude**2)


def simulate(model, **changes):
    config, wiring, recorded = subject_inputs(model)
    config = config | {"simulate": config["simulate"] | changes}
    return simulate_subject("1", wiring, recorded, subject_fit(model), config)


@pytest.fixture(scope="module", params=MODELS)
def simulated(request):
    return request.param, simulate(request.param, noise_levels=[MAIN, SMALL], seeds=48)


@pytest.mark.parametrize("model", MODELS)
def test_the_simulated_network_is_the_fitted_one(model):
    config, wiring, recorded = subject_inputs(model)
    fit, setup = subject_fit(model), subject_setup(config, wiring)
    theta = (
        fit["theta"].sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model"))).values
    )
    problem = subject_problem(setup, config, wiring, recorded)
    fitted, _ = jacobian_and_noise(setup, problem, constrained(setup, problem, jnp.asarray(theta)))
    fitted = np.asarray(fitted)
    if model == "HopfStep":
        fitted = np.block([[fitted.real, -fitted.imag], [fitted.imag, fitted.real]])
    found, noise = linearised(model)
    np.testing.assert_allclose(found, fitted, rtol=0, atol=1e-12)

    # amplitudes are absolute: mean variance 1, or beta <x^2 + y^2> / |a| = noise level in every region
    variance = np.diag(solve_continuous_lyapunov(found, -noise))
    if model == "LinearStep":
        np.testing.assert_allclose(variance.mean(), 1.0, rtol=1e-10)
    else:
        network = fitted_network(wiring, fit)
        reach = network.node.beta * (variance[:N] + variance[N:]) / -network.node.a
        np.testing.assert_allclose(reach, MAIN, rtol=1e-10)
    np.testing.assert_allclose(linearised(model, 0.3)[1], 3 * noise, rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_the_bound_of_the_fastest_rate(model):
    _, wiring, _ = subject_inputs(model)
    largest = np.abs(np.linalg.eigvals(linearised(model)[0])).max()
    assert largest <= fastest_rate(fitted_network(wiring, subject_fit(model))) < 3 * largest


@pytest.mark.parametrize("model", MODELS)
def test_starts_are_stationary(model):
    _, wiring, _ = subject_inputs(model)
    network = fitted_network(wiring, subject_fit(model))
    start = stationary_start(network, 20_000, jax.random.key(0))
    flat = np.concatenate([start[name] for name in network.node.state_names()], axis=1)
    expected = solve_continuous_lyapunov(linearised(model)[0], -linearised(model)[1])
    scale = np.sqrt(np.diag(expected))
    # standard error of an entry: at most sqrt(2 / 20 000) of the standard deviations
    np.testing.assert_allclose(
        np.cov(flat.T) / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.05
    )
    np.testing.assert_allclose(flat.mean(axis=0) / scale, 0.0, atol=5 / np.sqrt(20_000))
    fewer = stationary_start(network, 3, jax.random.key(0))
    np.testing.assert_allclose(fewer["x"], start["x"][:3], rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_starts_are_the_same_on_every_machine(model):
    """Draws through the Cholesky factor, which is unique: nothing depends on signs that a solver chooses."""
    _, wiring, _ = subject_inputs(model)
    network, key = fitted_network(wiring, subject_fit(model)), jax.random.key(5)
    names = network.node.state_names()
    start = stationary_start(network, 2, key)
    root = np.linalg.cholesky(solve_continuous_lyapunov(linearised(model)[0], -linearised(model)[1]))
    draws = [jax.random.normal(jax.random.fold_in(key, m), (len(root),)) for m in range(2)]
    expected = np.stack([root @ draw for draw in draws])
    flat = np.concatenate([start[name] for name in names], axis=1)
    # two solvers, 1e-13 of a covariance whose condition number is below 1e4
    np.testing.assert_allclose(flat, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_raw_series_have_the_stationary_covariance(simulated):
    """At a noise so small that the model is linear; the mean is known, so no realisation is too short."""
    model, _ = simulated
    config, wiring, recorded = subject_inputs(model)
    quiet = config | {"simulate": config["simulate"] | {"noise_levels": [SMALL], "seeds": 48}}
    quiet["model"] = config["model"] | {"noise_level": SMALL}  # the fit's own amplitudes, called small
    fit = subject_fit(model).copy(deep=True)
    fit["estimate"].loc[{"parameter": "noise"}] *= np.sqrt(SMALL / MAIN)
    bold = simulate_subject("1", wiring, recorded, fit, quiet)["bold"].values.astype(float)
    each = np.einsum("sti,stj->sij", bold, bold) / bold.shape[1]
    jacobian, noise = linearised(model, SMALL)
    expected = solve_continuous_lyapunov(jacobian, -noise)[:N, :N]
    error = each.std(axis=0) / np.sqrt(len(each))
    # 5 standard errors, and the bias of Heun steps of 0.12 s, (dt rate)^2 / 12 of the fastest modes
    np.testing.assert_allclose(
        each.mean(axis=0), expected, rtol=0, atol=(5 * error).max() + 0.01 * expected.max()
    )


def sampled_fc(model):
    """FC of the linear process sampled every TR, seen through the filter of the data, of an endless recording."""
    jacobian, noise = linearised(model)
    step = expm(TR * jacobian)
    stationary = solve_continuous_lyapunov(jacobian, -noise)
    frequency = (np.arange(2000) + 0.5) / 2000 * 0.5 / TR
    turn = np.exp(-2j * np.pi * frequency * TR)[:, None, None]
    transfer = np.linalg.inv(np.eye(len(step)) - turn * step)
    spectrum = (
        transfer @ (stationary - step @ stationary @ step.T) @ transfer.conj().transpose(0, 2, 1)
    ).real
    covariance = np.einsum("f,fij->ij", band_power_gain(frequency, TR, (0.01, 0.1), 2), spectrum)[:N, :N]
    return covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))


def test_mean_fc_is_that_of_the_theory(simulated):
    model, found = simulated
    mean, expected = found["fc_mean"].sel(noise_level=SMALL).values, sampled_fc(model)
    # 800 frames: the filter sees ends and slow drifts of each realisation, a bias of 0.02 to 0.04
    np.testing.assert_allclose(mean, expected, rtol=0, atol=0.05)
    pairs = np.triu_indices(N, 1)
    assert np.corrcoef(mean[pairs], expected[pairs])[0, 1] > 0.99
    # the FC that the fit reports is that of continuous time: power beyond the sampling rate does not fold back
    reported = subject_fit(model)["fc_model"].sel(predictor="model").values
    np.testing.assert_allclose(mean, reported, rtol=0, atol=0.07)
    assert np.corrcoef(mean[pairs], reported[pairs])[0, 1] > 0.98
    # at the noise of the main results the nonlinearity of HopfStep moves it little
    np.testing.assert_allclose(found["fc_mean"].sel(noise_level=MAIN), mean, rtol=0, atol=0.05)


def test_features_are_those_of_the_stored_series(simulated):
    model, found = simulated
    config, _, recorded = subject_inputs(model)
    n_frames = int(recorded["n_frames"].sel(split="test"))
    assert found.sizes["time"] == n_frames and found.sizes["seed"] == 48
    assert found["bold"].dtype == np.float32 and found.attrs["diverged"] == 0
    assert found.attrs["dt"] == 0.12
    again = features(found["bold"].isel(seed=5).values.astype(float), TR, config["signal"])
    for name in ("fc", "lag1", "psd", "variance", "metastability"):
        np.testing.assert_allclose(found[name].isel(seed=5), again[name], rtol=1e-10, atol=1e-12)
    each = average_correlations(list(found["fc"].values))
    np.testing.assert_allclose(found["fc_mean"].sel(noise_level=MAIN), each, rtol=1e-12)
    upper = found["fc"].values[:, 0, 1]
    assert len(set(upper)) == 48  # every realisation has its own noise


def test_the_seed_and_the_subject_make_the_draws(simulated):
    model, found = simulated
    if model == "LinearStep":
        config, wiring, recorded = subject_inputs(model)
        fit = subject_fit(model)
        short = config | {"simulate": config["simulate"] | {"seeds": 48}}
        np.testing.assert_array_equal(
            simulate_subject("1", wiring, recorded, fit, short)["bold"], found["bold"]
        )
        for subject, seed in (("1", 1), ("2", 0)):
            other = simulate_subject(subject, wiring, recorded, fit, short | {"seed": seed})
            assert np.abs(np.corrcoef(other["bold"].values.ravel(), found["bold"].values.ravel())[0, 1]) < 0.1


def louder(factor):
    fit = subject_fit("HopfStep").copy(deep=True)
    fit["estimate"].loc[{"parameter": "noise"}] *= np.sqrt(factor)
    return fit


def test_diverged_realisations_are_nan_and_counted():
    config, wiring, recorded = subject_inputs("HopfStep")
    found = simulate_subject("1", wiring, recorded, louder(1500.0), config)
    lost = ~np.isfinite(found["bold"]).all(("time", "region")).values
    assert 0 < lost.sum() < config["simulate"]["seeds"] and found.attrs["diverged"] == lost.sum()
    for name in ("fc", "lag1", "psd", "variance", "metastability", "fcd"):
        values = found[name].values.reshape(len(lost), -1)
        assert np.isnan(values[lost]).all() and np.isfinite(values[~lost]).all(), name
    assert np.isfinite(found["fc_mean"]).all()


def test_a_subject_of_which_every_realisation_diverges_is_an_error():
    config, wiring, recorded = subject_inputs("HopfStep")
    with pytest.raises(
        DataError, match=r"sub-1: all 24 simulations diverged at noise level 0.1 with dt 0.12 s"
    ):
        simulate_subject("1", wiring, recorded, louder(1e5), config)


def test_a_step_that_is_too_long_is_halved_and_written_down():
    assert simulate("LinearStep", dt=0.72, seeds=2).attrs["dt"] == pytest.approx(0.18)
