"""Stages of a fit: what simulation adds to the analytic stage, what is kept, and how it resumes."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from small_fits import LABELS, TR, connectome, small_config, true_theta

from brainloom.analysis.signal_dataset import signal_dataset
from brainloom.cohort.fits import fit_subject
from brainloom.cohort.settings import step_settings
from brainloom.core.config import validate_config
from brainloom.core.config_stages import STAGE_DEFAULTS
from brainloom.core.errors import ConfigError, DataError
from brainloom.fit import fitter as fitter_module
from brainloom.fit.realise import fitted_network, stationary_start
from brainloom.fit.simulated import SHARES, Stage, coordinates_network
from brainloom.fit.simulated_targets import DECIDING, FITTED, StageObjective, stage_targets
from brainloom.fit.subject import subject_problem, subject_setup
from brainloom.observe.filters import BandPass
from brainloom.simulate import Simulator

# Fluctuations as large as where the nonlinearity begins: the linear theory is far off.
LEVEL = 1.0
NO_CONTROLS = {
    "other_subject": False,
    "edge_shuffle": 0,
    "distance_shuffle": 0,
    "uniform": False,
    "distance": False,
}
SIMULATION = {
    "stage": "simulation",
    "steps": 12,
    "rate": 0.06,
    "dt": 0.24,
    "realisations": 3,
    "duration": 400.0,
}


def config_of(*stages: object, **fit: object) -> dict:
    config = small_config("HopfStep", stages=["analytic", *stages], **fit)
    config["model"]["noise_level"] = LEVEL
    return config | {"controls": NO_CONTROLS}


@lru_cache
def recorded() -> tuple[xr.Dataset, xr.Dataset, np.ndarray]:
    """Connectome, one recording of the nonlinear model with strong noise, and its coordinates."""
    config, wiring = config_of(), connectome("1")
    setup = subject_setup(config, wiring)
    rng = np.random.default_rng(5)
    empty = signal_dataset(
        [rng.normal(size=(400, len(LABELS)))], TR, LABELS, config["signal"], config["model"]["frequency_band"]
    ).assign_attrs(subject="1")
    empty["peak_frequency"] = empty["peak_frequency"].copy(data=rng.uniform(0.04, 0.07, len(LABELS)))
    problem = subject_problem(setup, config, wiring, empty)
    theta = true_theta(setup, "1")
    network = coordinates_network(setup, problem | {"level": LEVEL, "saturation": 1.0}, jnp.asarray(theta))
    start = {name: x[0] for name, x in stationary_start(network, 1, jax.random.key(1)).items()}
    run = Simulator(network, 0.24, method="stochastic_heun").run(
        4000 * TR, key=jax.random.key(2), sample_every=TR, monitors=["bold"], initial=start, check=False
    )
    signal = signal_dataset(
        [np.asarray(run["bold"])], TR, LABELS, config["signal"], config["model"]["frequency_band"]
    )
    return wiring, signal.assign_attrs(subject="1", kind="signal", status="ok", reason=""), theta


@lru_cache
def staged_fit() -> xr.Dataset:
    wiring, signal, _ = recorded()
    return fit_subject("1", wiring, signal, None, config_of(SIMULATION), None)


def the_stage(**changes: object) -> tuple[Stage, dict, np.ndarray]:
    """The stage of `staged_fit`, its problem, and where it begins."""
    wiring, signal, _ = recorded()
    config = config_of(SIMULATION)
    setup = subject_setup(config, wiring)
    fit = staged_fit()
    theta = fit["stage_theta"].sel(predictor="model", stage="analytic").values
    settings = STAGE_DEFAULTS | SIMULATION | changes
    stage = Stage("1", 1, settings, setup, signal, config)
    return stage, subject_problem(setup, config, wiring, signal), theta


def test_a_simulation_stage_improves_on_a_biased_analytic_fit():
    fit = staged_fit().sel(predictor="model")
    best = int(fit["best_start"])
    assert fit.attrs["stage"] == "simulation" and fit["stage_kept"].values.tolist() == [True, True]
    # fluctuations reach into the nonlinearity, which the linear theory leaves out: a factor of 16 in the loss
    assert float(fit["stage_validation"].sel(stage="simulation")) < 0.5 * float(
        fit["stage_validation"].sel(stage="analytic")
    )
    assert float(fit["stage_loss"].sel(stage="simulation")) < float(
        fit["stage_start_loss"].sel(stage="simulation")
    )
    ends = [fit["stage_theta"].sel(stage=name).values for name in ("analytic", "simulation")]
    share = float(fit["stage_share"].sel(stage="simulation"))
    assert share in SHARES
    assert np.array_equal(fit["theta"].values[best], ends[0] + share * (ends[1] - ends[0]))
    assert not np.array_equal(fit["theta"].values[best], fit["stage_theta"].sel(stage="analytic").values)
    assert (fit["stage_history"].sel(stage="simulation").notnull().sum() == SIMULATION["steps"]).item()


def test_the_kept_stage_is_what_is_simulated_and_nearer_to_held_out_fc():
    """Fresh noise, at the estimates that are written down: the network of the simulate step."""
    wiring, signal, _ = recorded()
    fit = staged_fit()
    stage, problem, before = the_stage()
    network = fitted_network(wiring, fit)
    own = coordinates_network(
        stage.setup,
        problem | {"level": LEVEL, "saturation": 1.0},
        jnp.asarray(fit["theta"].values[0, int(fit["best_start"][0])]),
    )
    for name, value in own.parameter_values().items():
        np.testing.assert_allclose(network.parameter_values()[name], value, rtol=1e-10, err_msg=name)
    run = stage.run(own)
    arrays = problem | {"level": jnp.asarray(LEVEL), "saturation": jnp.asarray(1.0)}
    simulate = jax.jit(lambda theta, start: run.bold(arrays, theta, start, jax.random.key(77))["clean"])
    start = stationary_start(own, 3, jax.random.key(78))
    upper = np.triu_indices(len(LABELS), 1)
    held_out = signal["fc"].sel(split="test").values[upper]
    error = []
    for theta in (before, fit["theta"].values[0, int(fit["best_start"][0])]):
        x = np.asarray(simulate(jnp.asarray(theta), start))
        fc = np.mean([np.corrcoef(x[:, k].T) for k in range(3)], axis=0)[upper]
        error.append(np.sqrt(np.mean((fc - held_out) ** 2)))
    # 0.19 before and 0.07 after; from one half of the recording to the other it is 0.04
    assert error[1] < 0.6 * error[0]


def test_a_killed_stage_resumes_bit_for_bit(tmp_path, monkeypatch):
    stage, problem, theta = the_stage()
    saved = 0
    save = fitter_module.Checkpoint.save

    def killed(self: object, arrays: dict) -> None:
        nonlocal saved
        save(self, arrays)
        saved += bool(arrays)
        if saved == 2:  # after ten of twelve steps
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitter_module.Checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.fit(problem, theta, tmp_path, "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one_steps.npz"]
    found = stage.fit(problem, theta, tmp_path, "one")
    fit = staged_fit().sel(predictor="model", stage="simulation")
    assert np.array_equal(found["reached"], fit["stage_theta"].values)
    assert np.array_equal(found["history"], fit["stage_history"].values)
    assert float(found["validation"]) == float(fit["stage_validation"])
    # a finished stage is read, not made again
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]
    assert np.array_equal(stage.fit(problem, theta, tmp_path, "one")["theta"], found["theta"])


@pytest.mark.slow
def test_stages_in_a_row_and_of_controls():
    """Two stages without gradients, the first for the control too, of the linear model."""
    wiring, signal, _ = recorded()
    short = {"stage": "simulation", "backend": "scipy", "optimizer": "Nelder-Mead", "steps": 2, "dt": 0.36}
    short |= {"realisations": 1, "duration": 110.0, "transient": 0.0}
    stages = ["analytic", short | {"controls": True}, short | {"objective": {"lag1": 1.0}}]
    config = small_config("LinearStep", starts=1, stages=stages) | {
        "controls": NO_CONTROLS | {"uniform": True}
    }
    fit = fit_subject("1", wiring, signal, None, config, None)
    assert fit["stage"].values.tolist() == ["analytic", "simulation 1", "simulation 2"]
    assert fit["predictor"].values.tolist() == ["model", "control_uniform"]
    for name, ran in (("model", [1, 2]), ("control_uniform", [1])):
        one = fit.sel(predictor=name)
        assert np.isfinite(one["stage_validation"].values[[0, *ran]]).all()
        assert (one["stage_loss"].values[ran] <= one["stage_start_loss"].values[ran]).all()
        theta = one["stage_theta"].values[0]
        for k in ran:  # each goes on from what was kept of the one before
            theta = theta + float(one["stage_share"][k]) * (one["stage_theta"].values[k] - theta)
        np.testing.assert_allclose(one["theta"].values[int(one["best_start"])], theta, rtol=1e-12)
    last = fit.sel(predictor="control_uniform", stage="simulation 2")
    assert (
        np.isnan(last["stage_validation"]) and np.isnan(last["stage_theta"]).all() and not last["stage_kept"]
    )
    assert last["stage_steps"] == 0 and np.isnan(last["stage_history"]).all()


def test_a_stage_that_does_not_help_is_not_kept(monkeypatch):
    """Selection is on the validation part: whatever the training loss does, the start is never given up for worse."""
    stage, problem, theta = the_stage()
    worse = theta - 6.0 * (np.arange(len(theta)) == 0)  # coupling

    def lost(self: Stage, *_: object) -> dict:
        nothing = np.asarray(0.0)
        return {
            "reached": worse,
            "history": np.zeros(1),
            "loss": nothing,
            "start_loss": nothing,
            "n_steps": 1,
        }

    monkeypatch.setattr(Stage, "_minimise", lost)
    found = stage.fit(problem, theta, None, "")
    assert not found["kept"] and np.array_equal(found["theta"], theta)
    assert float(found["validation"]) > float(found["start_validation"])
    assert np.array_equal(found["reached"], worse)


def test_targets_are_of_parts_that_share_no_frame_with_each_other():
    _, signal, _ = recorded()
    weights = {"fc": 1.0, "fcd_ks": 1.0, "psd": 0.1, "variance": 1.0, "lag1": 0.0}
    targets = stage_targets("1", signal, weights)
    assert set(targets) == {FITTED, DECIDING}
    assert set(targets[FITTED]) == {"fc", "fcd_ks", "psd", "variance"}
    # the dataset holds both from the same segments, stored in single precision
    np.testing.assert_allclose(targets[FITTED]["fc"].matrix, signal["fc_early"].values, atol=1e-12)
    np.testing.assert_allclose(
        targets[DECIDING]["fc"].matrix, signal["fc"].sel(split="validation").values, atol=1e-12
    )


def test_every_term_is_finite_with_its_gradient_and_falls_where_the_recording_is_met():
    """FC and FC dynamics together, on BOLD at its repetition time: what joint fits minimise."""
    _, signal, _ = recorded()
    weights = dict.fromkeys(["fc", "fc_corr", "lag1", "fcd_ks", "fcd_wasserstein", "variance", "psd"], 1.0)
    objective, target = StageObjective(weights, signal), stage_targets("1", signal, weights)[FITTED]
    rng = np.random.default_rng(0)
    raw = signal["bold"].values[0, :900, None, :].astype(float)

    @jax.jit
    def terms(raw: jax.Array) -> dict[str, jax.Array]:
        clean = BandPass(0.01, 0.1, order=2).series({}, raw, TR)
        return objective.each({"raw": raw, "clean": clean}, target)

    own, other = terms(jnp.asarray(raw)), terms(jnp.asarray(rng.normal(size=raw.shape)))
    for name in weights:
        assert 0.0 <= float(own[name]) < float(other[name]), name
    gradient = jax.jit(jax.grad(lambda x: sum(terms(x).values())))(jnp.asarray(raw))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_a_part_too_short_for_fc_dynamics_is_refused():
    _, signal, _ = recorded()
    short = signal.assign_attrs(fcd_window_frames=600)
    with pytest.raises(DataError, match=r"sub-1: the validation part has .* leave fcd_ks out of fit.stages"):
        stage_targets("1", short, {"fcd_ks": 1.0})


SENTENCES = [
    ([], "fit.stages is []; it must be a list such as"),
    (["simulation"], 'fit.stages is ["simulation"]; it must be a list that begins with analytic'),
    (["analytic", "analytic"], "it must be a list that begins with analytic, once"),
    (["analytic", "fast"], "fit.stages[1] is fast; it must be analytic, simulation, or keys"),
    (["analytic", {"stage": "simulation", "step": 3}], "did you mean fit.stages[1].steps?"),
    (["analytic", {"stage": "simulation", "rate": 0}], "fit.stages[1].rate is 0; it must be above 0"),
    (
        ["analytic", {"stage": "simulation", "optimizer": "sgd"}],
        "fit.stages[1].optimizer is sgd; it must be null or one of adam, lbfgs if backend is grad",
    ),
    (
        ["analytic", {"stage": "simulation", "population": 8}],
        "fit.stages[1].population is 8; it must be null if backend is grad",
    ),
    (
        ["analytic", {"stage": "simulation", "objective": {"fcd_ks": 1.0}, "duration": 100.0}],
        "fit.stages[1].duration is 100.0; it must be null or at least 123 s, two windows",
    ),
    (
        ["analytic", {"stage": "simulation", "objective": {"fc": 0}}],
        'fit.stages[1].objective is {"fc": 0}; it must be above 0 in at least one term',
    ),
]


@pytest.mark.parametrize(("stages", "sentence"), SENTENCES)
def test_mistakes_in_stages_get_one_sentence(stages, sentence):
    with pytest.raises(ConfigError) as error:
        validate_config({"fit": {"stages": stages}})
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_stages_are_completed_and_read_by_the_fit_alone_if_there_is_a_simulation():
    plain = validate_config({})
    assert plain["fit"]["stages"] == ["analytic"] and "stages" not in step_settings(plain, "fit")["fit"]
    config = validate_config({"fit": {"stages": ["analytic", {"stage": "simulation", "steps": 7}]}})
    assert config["fit"]["stages"][1] == STAGE_DEFAULTS | {"steps": 7}
    assert validate_config(config) == config
    assert step_settings(config, "fit")["fit"]["stages"] == config["fit"]["stages"]
