"""What a study may choose of the analytic stage of route fc: parameters with starts and priors, weights, the backend."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from small_fits import LABELS, fits_of, small_config, subject_fit, subject_inputs

from brainloom.cohort.fits import fit_subject
from brainloom.cohort.settings import step_settings
from brainloom.core.config import validate_config
from brainloom.core.errors import ConfigError
from brainloom.fit.predict import objective
from brainloom.fit.search import CHOICES, search_starts_by
from brainloom.fit.subject import subject_problem, subject_setup

NO_CONTROLS = {
    "other_subject": False,
    "edge_shuffle": 0,
    "distance_shuffle": 0,
    "uniform": False,
    "distance": False,
}


def fitted(**fit: object):
    _, wiring, signal = subject_inputs("LinearStep")
    config = small_config("LinearStep", **fit) | {"controls": NO_CONTROLS}
    ds = fit_subject("1", wiring, signal, None, config, None).sel(predictor="model")
    return ds.isel(start=int(ds["best_start"]))


def test_parameters_named_like_the_lists_give_the_same_fit():
    names = {"coupling": {}, "homotopic": {}, "gamma": {"scope": "regional"}, "noise": {"scope": "regional"}}
    found = fitted(parameters=names)
    by_lists = subject_fit("LinearStep").sel(predictor="model")
    by_lists = by_lists.isel(start=int(by_lists["best_start"]))
    np.testing.assert_array_equal(found["theta"], by_lists["theta"])
    np.testing.assert_array_equal(found["coordinate"], by_lists["coordinate"])
    np.testing.assert_array_equal(found["scope"], by_lists["scope"])


def test_starts_scopes_and_priors_of_parameters():
    found = fitted(
        parameters={
            "coupling": {"start": 0.7, "prior_sd": 0.02},
            "homotopic": {"start": 0.9, "prior_sd": 1e-4},
            "gamma": {"start": -0.07},
            "noise": {"scope": "regional"},
        },
        **{"lambda": 1.0},
    )
    assert found["coordinate"].values.tolist() == [
        "coupling",
        "gamma",
        *(f"noise[{name}]" for name in LABELS),
    ]
    assert dict(zip(found["parameter"].values, found["scope"].values, strict=True)) == {
        "coupling": "global", "homotopic": "global", "gamma": "global", "noise": "regional", "gain_in": "regional",
        "gain_out": "regional",
    }  # fmt: skip
    value = found["estimate"]
    np.testing.assert_array_equal(value.sel(parameter="homotopic"), 0.9)  # fixed by its prior
    assert np.ptp(value.sel(parameter="gamma").values) == 0.0
    # a penalty as large as this, and a prior of 2 %, leave the coupling where it started
    np.testing.assert_allclose(value.sel(parameter="coupling"), 0.7, rtol=1e-3)
    assert abs(float(found["theta"][0])) > 0
    # the rate above the floor of stability is exp(theta) times that of the start
    rate, floor = -float(value.sel(parameter="gamma")[0]), 0.01
    np.testing.assert_allclose(rate, floor + (0.07 - floor) * np.exp(float(found["theta"][1])), rtol=1e-12)


def case(**fit: object):
    _, wiring, signal = subject_inputs("LinearStep")
    config = small_config("LinearStep", **fit)
    setup = subject_setup(config, wiring)
    return setup, subject_problem(setup, config, wiring, signal)


def test_the_penalty_counts_in_units_of_the_prior():
    """lambda and all squared widths divided by 4: the same objective; another width of one name: another one."""
    names, theta = ("coupling", "homotopic"), jax.numpy.asarray([0.3, -0.2])
    plain = objective(*case(parameters={key: {} for key in names}, **{"lambda": 0.04}), theta)
    half = {key: {"prior_sd": 0.5} for key in names}
    np.testing.assert_allclose(
        objective(*case(parameters=half, **{"lambda": 0.01}), theta), plain, rtol=1e-12
    )
    one = {"coupling": {"prior_sd": 0.5}, "homotopic": {}}
    more = objective(*case(parameters=one, **{"lambda": 0.04}), theta) - plain
    np.testing.assert_allclose(more, 0.04 / len(LABELS) * 3.0 * 0.3**2, rtol=1e-9)


@pytest.mark.parametrize("backend", CHOICES)
def test_every_backend_finds_the_same_optimum(backend):
    setup, problem = case(parameters={"coupling": {}, "homotopic": {}}, backend=backend)
    starts = setup.space.starts(3, jax.random.key(0))[1:2]
    steps = 80 if backend in ("cmaes", "nevergrad") else 200
    wanted = fits_of(setup, problem, starts, 200)[0]
    found = search_starts_by(backend, setup, problem, starts, steps, jax.random.key(1))
    # the loss is flat to 1e-8 over so little: each ends where its own criterion says
    np.testing.assert_allclose(found.theta[0], wanted.theta, atol=5e-3)
    np.testing.assert_allclose(found.loss[0], wanted.loss, rtol=1e-4)
    assert found.history.shape == (1, steps) and found.theta.shape == starts.shape
    taken = int(found.n_steps[0])
    assert (
        float(found.history[0, taken - 1]) == float(found.loss[0])
        and np.isnan(found.history[0, taken:]).all()
    )


def test_the_weight_of_fc_is_that_of_the_objective():
    def value(**weights: float) -> float:
        setup, problem = case(objective=weights)
        return float(
            objective(setup, problem | {"penalty": np.asarray(0.0)}, jax.numpy.zeros(setup.space.size))
        )

    np.testing.assert_allclose(value(fc=3.0, lag1=0.0), 3.0 * value(fc=1.0, lag1=0.0), rtol=1e-12)
    only = value(fc=0.0, lag1=2.0)
    np.testing.assert_allclose(value(fc=1.0, lag1=2.0), only + value(fc=1.0, lag1=0.0), rtol=1e-12)
    assert only > 0


SENTENCES = [
    ({"coupling": {"scope": "regional"}}, "fit.parameters.coupling.scope is regional; it must be global"),
    (
        {"noise": {"start": 0.1}},
        "fit.parameters.noise.start is 0.1; it must be null, as FC does not tell its scale",
    ),
    ({"a": {"start": 0.1}}, "fit.parameters.a.start is 0.1; it must be a number below 0"),
    ({"homotopic": {"start": 0}}, "fit.parameters.homotopic.start is 0; it must be a number above 0"),
    (
        {"gamma": {}},
        "fit.parameters names gamma, which is not fitted; fit.route fc knows coupling, homotopic, local",
    ),
    ({"couplng": {}}, "fit.parameters names couplng, which is not fitted; did you mean coupling?"),
    ({"a": {}, "local": {}}, "fit.parameters names local and a, which are the same"),
    ({"a": {"prior_sd": 1e-4}}, "fit.parameters fixes all that it names by narrow priors"),
]


@pytest.mark.parametrize(("parameters", "sentence"), SENTENCES)
def test_mistakes_in_parameters_get_one_sentence(parameters, sentence):
    with pytest.raises(ConfigError) as error:
        validate_config({"fit": {"parameters": parameters}})
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_parameters_are_completed_and_read_by_the_fit():
    config = validate_config({"fit": {"parameters": {"coupling": {"prior_sd": 0.5}}}})
    assert config["fit"]["parameters"] == {"coupling": {"start": None, "prior_sd": 0.5, "scope": "global"}}
    assert validate_config(config) == config
    assert step_settings(config, "fit")["fit"]["parameters"] == config["fit"]["parameters"]
    assert "parameters" not in step_settings(validate_config({}), "fit")["fit"]
