"""Fit of cross-spectra: derivatives, information, search, intervals, and what cannot be fitted."""

from dataclasses import replace

import brainloom.models  # noqa: F401  before brainstate, which resets the precision

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from brainloom.core.errors import ConfigError, DataError
from brainloom.fit import spectral
from brainloom.fit.spectral_model import (
    bold_csd,
    network_values,
    parameters,
    point,
    predict,
    rest_state,
)
from brainloom.fit.spectral_problem import spectral_problem
from brainloom.fit.spectral_search import search_starts
from brainloom.fit.spectral_space import Entry
from brainloom.models import LinearStep

best_point = jax.jit(point, static_argnums=0)

N, TR, RATE = 3, 2.0, 250.0
REGIONS = np.array(["a", "b", "c"])
# Leaky integrators of 10 ms with feedback over delays of 10 to 25 ms: EEG shows the resonance of the loop.
TRUE = {"k": 0.05, "gamma": -0.1, "speed": 5.0, "bold_gain": 2.0, "bold_noise": 2e-3}
EEG_TRUE = {"dipole_gain": 3.0, "sensor_noise": 4.0}


def connectome() -> xr.Dataset:
    weights = np.array([[0.0, 1.2, 0.4], [0.9, 0.0, 0.6], [0.3, 0.8, 0.0]])
    lengths = np.array([[0.0, 60.0, 120.0], [60.0, 0.0, 80.0], [120.0, 80.0, 0.0]])
    pair = ("region", "region_to")
    return xr.Dataset(
        {"weights": (pair, weights), "lengths": (pair, lengths)},
        coords={"region": REGIONS, "region_to": REGIONS, "homotope": ("region", [-1, -1, -1])},
        attrs={"subject": "01"},
    )


def signal() -> xr.Dataset:
    """Bins and tapers of a long recording of BOLD and of sources; the spectra are put in later."""
    bold, eeg = 0.01 * np.arange(1, 19) + 0.005, 2.0 * np.arange(1, 20) + 1.0
    eye = np.eye(N, dtype=complex)
    return xr.Dataset(
        {
            "bold_csd": (("split", "bold_csd_frequency", "region", "region_to"), np.ones((1, 18, 1, 1)) * eye),
            "bold_csd_n": ("split", [40]),
            "eeg_csd": (
                ("split", "eeg_csd_frequency", "eeg_component", "eeg_component_to"), np.ones((1, 19, 1, 1)) * eye
            ),
            "eeg_csd_n": ("split", [900]),
            "eeg_basis": (("eeg_sensor", "eeg_component"), np.eye(N)),
        },
        coords={
            "split": ["train"],
            "region": REGIONS,
            "region_to": REGIONS,
            "eeg_sensor": REGIONS,
            "bold_csd_frequency": bold,
            "eeg_csd_frequency": eeg,
            "frequency": np.arange(65) / 256.0,
            "eeg_frequency": np.arange(1.0, 40.0),
        },
        attrs={
            "subject": "01",
            "repetition_time": TR,
            "eeg_sampling_frequency": RATE,
            "eeg_space": "region",
            "eeg_unit": "V",
        },
    )  # fmt: skip


def config(*modality: str, starts: int = 2, **changes) -> dict:
    """Priors around values other than the true ones."""
    named = {
        "k": {"start": 0.035, "prior_sd": 0.5},
        "gamma": {"start": -0.08, "prior_sd": 0.5},
        "speed": {"start": 8.0, "prior_sd": 0.5},
        "noise": {"start": 0.1, "prior_sd": 1e-6},
    }
    scales = [
        *(["bold_gain", "bold_noise"] if "bold" in modality else []),
        *(EEG_TRUE if "eeg" in modality else []),
    ]
    named |= {name: {"start": 1.5 * (TRUE | EEG_TRUE)[name], "prior_sd": 1.0} for name in scales}
    return {
        "modality": list(modality),
        "model": {"name": "LinearStep", "parameters": {}, "coupling": {"kind": "additive", "source": "x"}},
        "fit": {
            "parameters": named | changes,
            "objective": {},
            "starts": starts,
            "control_starts": 1,
            "max_steps": 60,
        },
        "signal": {"band": [0.01, 0.1], "filter_order": 2},
        "identify": {"level": 0.9},
        "seed": 3,
    }


def at_truth(setup, problem) -> jax.Array:
    """Coordinates of the true values, by Newton's method on each transform."""
    found = []
    for one in setup.space.entries:
        target, start = (TRUE | EEG_TRUE)[one.name], problem["start"][one.name]
        x = 0.0
        for _ in range(30):
            value, slope = jax.value_and_grad(lambda c, one=one, start=start: one.value(start, c))(x)
            x = x + (target - value) / slope
        found.append(x)
    return jnp.stack(found)


@pytest.fixture(scope="module")
def task():
    """A joint problem whose recording is exactly what the model predicts at the truth, and the truth."""
    setup, problem = spectral_problem(config("bold", "eeg"), connectome(), signal())
    theta = at_truth(setup, problem)
    csd = jax.jit(lambda x: predict(setup, problem, x)[0])(theta)
    for name in csd:
        problem[name] = problem[name] | {"csd": csd[name]}
    return setup, problem, theta


def differences(values, h: float) -> np.ndarray:
    """Central differences along every coordinate: `values` at +h and -h of each in turn."""
    up, down = np.array(values[::2]), np.array(values[1::2])
    return (up - down) / (2.0 * h)


def around(setup, problem, theta, h: float) -> list:
    steps = [sign * h * np.eye(len(theta))[k] for k in range(len(theta)) for sign in (1.0, -1.0)]
    return [best_point(setup, problem, theta + step) for step in steps]


def test_gradient_is_that_of_the_objective(task):
    setup, problem, theta = task
    near = theta + 0.1 * jnp.cos(jnp.arange(len(theta)))
    found = best_point(setup, problem, near)
    slope = differences([one.value for one in around(setup, problem, near, 1e-4)], 1e-4)
    # the objective is about 1e5 and exact to 1e-10 of it: 1e-1 of a difference of 2e-4, besides h^2 of curvature
    np.testing.assert_allclose(found.gradient, slope, rtol=1e-4, atol=1e-5 * np.abs(slope).max())


def test_information_is_the_curvature_where_the_recording_is_as_expected(task):
    """Its expectation over recordings is the Hessian with the expected recording in the place of the real one."""
    setup, problem, theta = task
    fisher = best_point(setup, problem, theta).fisher
    hessian = differences([one.gradient for one in around(setup, problem, theta, 1e-4)], 1e-4)
    hessian = hessian - np.diag(problem["prior_sd"] ** -2.0)
    scale = np.sqrt(np.outer(np.diag(fisher), np.diag(fisher)))
    np.testing.assert_allclose(hessian / scale, np.asarray(fisher) / scale, atol=1e-6)  # h^2 times curvature


@pytest.fixture(scope="module")
def sampled(task):
    """Recordings drawn from the complex Wishart law of the truth, each fitted: errors and their reported sd."""
    setup, problem, theta = task
    rng = np.random.default_rng(5)
    # the prior's own pull is taken out of the errors by a flat prior
    flat = problem | {"prior_sd": jnp.full(len(theta), 1e3)}
    errors, sds = [], []
    for _ in range(40):
        drawn = dict(flat)
        for name in setup.modalities:
            root, k = np.linalg.cholesky(problem[name]["csd"]), int(problem[name]["n_tapers"])
            shape = (*root.shape[:2], k)
            noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2.0)
            made = root @ noise
            drawn[name] = problem[name] | {"csd": jnp.asarray(made @ np.conj(np.swapaxes(made, 1, 2)) / k)}
        fits = search_starts(setup, drawn, jnp.stack([theta, theta]), 1, 60)
        assert bool(fits.converged[0])
        covariance = np.linalg.inv(np.asarray(fits.fisher[0]))
        errors.append(np.asarray(fits.theta[0] - theta))
        sds.append(np.sqrt(np.diag(covariance)))
    return np.array(errors), np.array(sds)


def test_errors_are_as_large_as_reported(sampled):
    errors, sds = sampled
    z = errors / sds
    # 40 draws: the standard error of a standard deviation is 1/sqrt(80) = 11 %, of a mean 16 %; three of them
    assert np.all(np.abs(z.std(axis=0) - 1.0) < 0.34), z.std(axis=0)
    assert np.all(np.abs(z.mean(axis=0)) < 0.48), z.mean(axis=0)
    inside = np.mean(np.abs(z) < 1.645)
    assert 0.83 < inside < 0.97  # 280 correlated intervals of 90 %


def test_search_finds_the_truth_from_every_start(task):
    setup, problem, theta = task
    flat = problem | {"prior_sd": jnp.full(len(theta), 1e3)}
    found = [
        search_starts(setup, flat, setup.space.starts(4, jax.random.key(1))[k : k + 2], 2, 60) for k in (0, 2)
    ]
    fits = jax.tree.map(lambda *x: jnp.concatenate(x), *found)
    assert np.all(np.asarray(fits.converged))
    # the tolerance of the search is 1e-4 units of log density; the flattest direction has an sd above 1e-2
    np.testing.assert_allclose(fits.theta, np.broadcast_to(theta, (4, len(theta))), atol=5e-4)
    history = np.asarray(fits.history[0])[: int(fits.n_steps[0])]
    assert np.all(np.diff(history[np.isfinite(history)]) <= 0.0)


def test_an_unstable_start_steps_back_and_nothing_is_nan(task):
    setup, problem, theta = task
    far = jnp.zeros(len(theta)).at[setup.space.labels([]).index("k")].set(4.0)  # 50 times the coupling
    assert np.isinf(best_point(setup, problem, far).value)
    fits = search_starts(setup, problem, jnp.stack([far, far]), 1, 60)
    # the objective is finite only where the network is stable
    assert np.isfinite(fits.loss[0]) and bool(fits.converged[0]) and np.all(np.isfinite(fits.theta[0]))
    np.testing.assert_allclose(fits.theta[0], theta, atol=0.1)  # the prior pulls a little


def test_sampled_bold_keeps_the_variance_of_the_signal(task):
    """Folding: the spectrum below the Nyquist frequency holds the power that the signal has at all frequencies."""
    setup, problem, theta = task
    given = parameters(setup, problem, theta) | {"bold_noise": jnp.asarray(0.0)}
    values = network_values(setup, problem, given)
    state, _ = rest_state(setup, values, problem["guess"])
    slow = problem | {
        "repetition_time": jnp.asarray(1e6)
    }  # so far apart that nothing folds back into the band

    def power(problem: dict, highest: float) -> np.ndarray:
        frequency = jnp.linspace(0.0, highest, 4001)[:, None]
        csd = jax.jit(lambda p: bold_csd(p, given, setup, (values, state), frequency))(problem)
        return np.trapezoid(
            np.real(np.asarray(csd))[:, range(N), range(N)], np.asarray(frequency)[:, 0], axis=0
        )

    whole = power(slow, 4.0) / 3.0  # three copies that lie on each other
    # what is left above 3/4 Hz, where the fourth copy begins, is below a thousandth
    np.testing.assert_allclose(power(problem, 0.5 / TR), whole, rtol=2e-3)


def test_transforms_keep_bounds_and_count_in_log_units():
    bounded = Entry("b", False, "bounded", 0.5, 25.0, 100.0)
    x = jnp.linspace(-8.0, 8.0, 33)
    value = bounded.value(jnp.asarray(50.0), x)
    assert np.all((value > 25.0) & (value < 100.0)) and np.all(np.diff(value) > 0.0)
    assert float(bounded.value(jnp.asarray(50.0), jnp.asarray(0.0))) == pytest.approx(50.0, rel=1e-12)
    slope = jax.grad(lambda c: jnp.log(bounded.value(50.0, c)))(0.0)
    assert float(slope) == pytest.approx(1.0, rel=1e-12)
    signed = replace(bounded, low=-2.0, high=2.0)
    assert float(jax.grad(lambda c: signed.value(0.0, c))(0.0)) == pytest.approx(
        1.0
    )  # a quarter of the bounds


@pytest.fixture(scope="module")
def subject(task, tmp_path_factory):
    """The fit of a drawn recording, through the functions that the workflow calls."""
    _, problem, _ = task
    recorded = signal()
    rng = np.random.default_rng(11)
    for name in ("bold", "eeg"):
        root, k = np.linalg.cholesky(problem[name]["csd"]), int(problem[name]["n_tapers"])
        shape = (*root.shape[:2], k)
        made = root @ ((rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2.0))
        recorded[f"{name}_csd"].values[0] = made @ np.conj(np.swapaxes(made, 1, 2)) / k
    folder = tmp_path_factory.mktemp("checkpoints")
    controls = {
        "other_subject": False,
        "edge_shuffle": 1,
        "distance_shuffle": 0,
        "uniform": False,
        "distance": False,
    }
    settings = config("bold", "eeg") | {"controls": controls}
    fit = spectral.fit_subject_spectral("01", connectome(), recorded, None, settings, folder)
    return recorded, folder, settings, fit, spectral.posterior_spectral(connectome(), recorded, fit, settings)


def test_a_subject_has_intervals_and_features(subject):
    _, _, _, fit, posterior = subject
    for name in ("k", "gamma", "speed", "sensor_noise"):
        found = posterior.sel(parameter=name).isel(region=0)
        # one draw: five standard deviations of the posterior, which are 3.04 half widths of its 90 % interval
        half = 0.5 * float(found["upper"] - found["lower"])
        assert abs(float(found["estimate"]) - (TRUE | EEG_TRUE)[name]) < 3.04 * half
        assert str(found["identified"].values) == "yes"
    assert list(fit["predictor"].values) == ["model", "control_edge_shuffle:0"]
    assert dict(zip(fit["parameter"].values, fit["fitted"].values, strict=True))["noise"] == np.False_
    assert fit["eeg_psd_model"].sizes["eeg_sensor"] == N and np.isfinite(fit["fc_model"]).all()
    assert float(fit["stability_margin"][0]) > 0.0
    assert posterior["eigenvalue"].values[0] == posterior["eigenvalue"].values.max()


def test_a_finished_fit_is_not_computed_again(subject, monkeypatch):
    recorded, folder, settings, fit, _ = subject
    monkeypatch.setattr(spectral, "search_starts", None)
    again = spectral.fit_subject_spectral("01", connectome(), recorded, None, settings, folder)
    xr.testing.assert_identical(again, fit)


def test_the_fitted_network_has_the_fitted_values(subject):
    _, _, _, fit, posterior = subject
    network, observers = spectral.spectral_network(connectome(), fit)
    assert type(network.node) is LinearStep and sorted(observers) == ["bold", "eeg"]
    values = network.parameter_values()
    estimate = posterior["estimate"].isel(region=0)
    assert float(values["coupling.k"]) == pytest.approx(float(estimate.sel(parameter="k")), rel=1e-9)
    assert float(values["noise_x"]) == pytest.approx(0.1)
    delay = 120.0 / float(estimate.sel(parameter="speed"))
    assert float(values["delay"][0, 2]) == pytest.approx(delay, rel=1e-9)  # ms


def test_regional_parameters_have_one_coordinate_a_region():
    settings = config("eeg", gamma={"start": -0.08, "prior_sd": 0.3, "scope": "regional"})
    setup, problem = spectral_problem(settings, connectome(), signal())
    assert setup.space.labels(list(REGIONS))[-3:] == ["gamma[a]", "gamma[b]", "gamma[c]"]
    moved = jnp.zeros(setup.space.size).at[-1].set(0.5)
    changed = network_values(setup, problem, parameters(setup, problem, moved))["gamma"]
    np.testing.assert_allclose(changed[:2], -0.08, rtol=1e-12)
    assert float(changed[2]) != pytest.approx(-0.08)


def test_what_cannot_be_fitted_is_told():
    with pytest.raises(ConfigError, match=r"fit.parameters names tau_e, .* it may be one of gamma, k, speed"):
        spectral_problem(config("bold", tau_e={"start": 1.0}), connectome(), signal())
    with pytest.raises(ConfigError, match=r"names dipole_gain, .* modality bold"):
        spectral_problem(config("bold", dipole_gain={"start": 1.0}), connectome(), signal())
    with pytest.raises(DataError, match=r"sub-01: the recording has no meg cross-spectra \(meg_csd\)"):
        spectral_problem(config("meg"), connectome(), signal())
    with pytest.raises(
        DataError, match=r"sub-01: LinearStep has no stable fixed point at the starting values"
    ):
        spectral_problem(config("bold", k={"start": 5.0}), connectome(), signal())
    with pytest.raises(DataError, match="sub-01: connectome and recording have different regions"):
        spectral_problem(config("bold"), connectome().assign_coords(region=["x", "y", "z"]), signal())
    silent = config("bold", "eeg")
    silent["fit"]["objective"] = {"bold": 0.0, "eeg": 0.0}
    with pytest.raises(ConfigError, match="gives no weight to any of bold, eeg"):
        spectral_problem(silent, connectome(), signal())
