"""Every backend reaches the same optimum; noise, divergence, chaos."""

import warnings

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brainstate.nn import Param, SigmoidT, SoftplusT

from brainloom import FitResult, Fitter, JansenRitStep, Simulator, objectives
from brainloom.fit.cma_es import CMAES
from brainloom.fit.population import mirrored

LBFGS = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(20, store_grad=True))
KEY = jax.random.key(3)


class Valley(brainstate.nn.Module):
    """Two parameters of Rosenbrock's function."""

    def __init__(self, x=-1.0, y=1.5):
        super().__init__()
        self.x, self.y = Param(x), Param(y, t=SigmoidT(-3.0, 3.0))

    def loss(self):
        x, y = self.x.value(), self.y.value()
        return (1.0 - x) ** 2 + 10.0 * (y - x * x) ** 2


class Gain(brainstate.nn.Module):
    """One number."""

    def __init__(self, start=0.0, **options):
        super().__init__()
        self.gain = Param(start, fit=True, **options)


def noisy(model):
    return jnp.mean((model.gain.value() - 1.0 + brainstate.random.randn(4)) ** 2)


# --- the same optimum ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "optimizer", "n_steps", "atol"),
    [
        ("grad", optax.adam(optax.cosine_decay_schedule(0.1, 500)), 500, 1e-3),
        ("grad", [(optax.adam(0.05), 30), ("lbfgs", 60)], None, 1e-6),
        ("grad", LBFGS, 60, 1e-6),
        ("scipy", None, 100, 1e-4),
        ("scipy", "Nelder-Mead", 150, 2e-4),
        ("cmaes", None, 200, 1e-5),
        ("nevergrad", None, 150, 1e-4),
        ("nevergrad", "DE", 400, 1e-3),
        ("nevergrad", {"method": "OnePlusOne", "population": 8}, 300, 2e-2),
    ],
)
def test_every_backend_finds_the_same_optimum_from_the_same_start(backend, optimizer, n_steps, atol):
    # Each tolerance is ten times or more what the method reaches in these steps, whatever the rounding.
    result = Fitter(Valley(), optimizer, loss_fn=Valley.loss, backend=backend).fit(n_steps=n_steps, key=KEY)
    np.testing.assert_allclose([result.best_params[name] for name in "xy"], 1.0, atol=atol)
    np.testing.assert_allclose(result.history[0], 4.0 + 2.5, rtol=1e-12)  # the start is where the model is
    assert result.best_loss == np.min(result.history) and result.converged
    assert result.n_evaluations >= len(result.history) and result.n_skipped == 0
    assert result.starts is None and np.isnan(result.validation_loss)


@pytest.mark.parametrize(
    ("backend", "optimizer", "n_steps"),
    [("grad", optax.adam(0.1), 25), ("scipy", None, 20), ("cmaes", 8, 8), ("nevergrad", "CMA", 10)],
)
def test_a_jansen_rit_column_is_fitted_to_ten_hertz_by_every_backend(backend, optimizer, n_steps):
    p, b = Param(240.0, t=SigmoidT(180.0, 320.0)), Param(55.0, t=SigmoidT(40.0, 70.0))

    def predict(column):
        run = Simulator(column, dt=1.0 * u.ms).run(
            1500.0 * u.ms, monitors=["potential"], transient=500.0 * u.ms, sample_every=4 * u.ms
        )
        return run["potential"]

    objective = objectives.spectral_peak((4, 20), dt=4 * u.ms, window=1.0)
    fitter = Fitter(
        JansenRitStep(1, p=p, b=b), optimizer, predict=predict, objective=objective, backend=backend
    )
    result = fitter.fit(objectives.PeakFrequency(np.array([10.0])), n_steps, key=KEY)
    # 0.94 Hz off at the start, the same for all; less than a tenth of that at the end
    np.testing.assert_allclose(result.history[0], 0.935926829682, rtol=1e-6)
    assert result.best_loss < 0.09 and np.isfinite(result.history).all()
    spectrum = np.abs(np.fft.rfft(np.asarray(result.prediction / u.mV).ravel(), 5000))
    peak = np.fft.rfftfreq(5000, 4e-3)[200 + np.argmax(spectrum[200:])]  # above 8 Hz, in steps of 0.05
    assert abs(peak - 10.0) < 0.5  # a soft peak and one of half the width of a bin of the window


def test_a_population_stays_within_bounds_and_finds_optima_on_them():
    tried = []
    space = {"x": (-2.0, 0.5), "y": (-1.0, 2.0)}
    for backend in ("cmaes", "nevergrad"):
        fitter = Fitter(Valley(), loss_fn=Valley.loss, backend=backend, search_space=space)
        fitter.callbacks.append(lambda info: tried.append([float(info["params"][name]) for name in "xy"]))
        result = fitter.fit(n_steps=120, key=KEY)
        # the lowest point of the valley with x <= 0.5 is (0.5, 0.25)
        np.testing.assert_allclose([result.best_params[name] for name in "xy"], [0.5, 0.25], atol=1e-3)
    assert np.all(np.min(tried, axis=0) >= [-2.0, -1.0 - 1e-12])
    assert np.all(np.max(tried, axis=0) <= [0.5, 2.0 + 1e-12])


def test_mirrors_keep_points_within_bounds_without_jumps():
    low, high = np.array([0.0, -np.inf, 1.0, -np.inf]), np.array([1.0, 2.0, np.inf, np.inf])
    points = np.array([[1.25, 3.0, 0.5, 7.0], [-0.25, 1.0, 5.0, -7.0], [2.5, -9.0, 1.0, 0.0]])
    wanted = [[0.75, 1.0, 1.5, 7.0], [0.25, 1.0, 5.0, -7.0], [0.5, -9.0, 1.0, 0.0]]
    np.testing.assert_allclose(mirrored(points, low, high), wanted, atol=1e-15)


def test_adaptation_learns_the_shape_of_a_badly_scaled_bowl():
    """Half-axes differ by a thousand in ten dimensions, rotated."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    bowl = turn @ np.diag(10.0 ** np.linspace(0.0, 6.0, 10)) @ turn.T
    search = CMAES(np.ones(10), 0.5, 10, [1])
    for _ in range(700):
        points = search.ask()
        search.tell(np.einsum("ij,jk,ik->i", points, bowl, points))
    assert search.mean @ bowl @ search.mean < 1e-10 * np.ones(10) @ bowl @ np.ones(10)


# --- noise ---------------------------------------------------------------------------------------------


def test_a_loss_is_averaged_over_realisations_of_the_noise():
    keys = jax.random.split(KEY, 5)
    single = [Fitter(Gain(), optax.sgd(0.1), loss_fn=noisy).fit(n_steps=1, key=key).best_loss for key in keys]
    together = Fitter(Gain(), optax.sgd(0.1), loss_fn=noisy).fit(n_steps=3, key=KEY, n_realisations=5)
    np.testing.assert_allclose(together.history[0], np.mean(single), rtol=1e-12)
    np.testing.assert_array_equal(together.seeds, jax.random.key_data(keys))


def test_scores_are_of_fresh_noise(tmp_path):
    fitter = Fitter(Gain(), loss_fn=noisy, backend="scipy")
    result = fitter.fit(key=KEY)
    score = result.score(jax.random.key(8), n=200)
    # The fit sees four numbers and finds their mean; the expected loss elsewhere is 1 + (its error)^2.
    expected = 1.0 + (float(result.best_params["gain"]) - 1.0) ** 2
    assert abs(score.mean - expected) < 4.0 * score.sd / np.sqrt(200) and score.sd > 0.3
    assert result.best_loss < score.mean and len(score.seeds) == len(score.values) == 200
    again = fitter.evaluate(key=jax.random.key(8), n=200)
    np.testing.assert_array_equal(again.values, score.values)  # the model is at the best parameters
    assert repr(score).startswith(f"Score({score.mean:.6g} ± ")
    brainstate.random.seed(0)
    assert result.score(n=2).seeds != result.score(n=2).seeds
    still = Fitter(Valley(), loss_fn=Valley.loss).fit(n_steps=1).score()
    assert still.sd == 0.0 and still.values == [still.mean] and still.seeds == []
    result.save(tmp_path / "fit.npz")
    with pytest.raises(ValueError, match="a loaded result has no model to score"):
        FitResult.load(tmp_path / "fit.npz").score()
    with pytest.raises(ValueError, match="n is 0; it must be a whole number"):
        result.score(n=0)


# --- gradients that break ------------------------------------------------------------------------------


def test_a_gradient_that_explodes_over_the_horizon_is_said():
    """The logistic map at r near 4 is chaotic: a change doubles with every step."""

    def last(model, n):
        r = model.gain.value()
        return (jax.lax.fori_loop(0, n, lambda _, x: r * x * (1.0 - x), 0.3) - 0.9) ** 2

    with pytest.warns(UserWarning, match=r"it explodes over the simulated time.*clip=1.0.*'cmaes'"):
        Fitter(Gain(3.9), optax.adam(1e-3), loss_fn=lambda m: last(m, 60)).fit(n_steps=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Fitter(Gain(2.9), optax.adam(1e-3), loss_fn=lambda m: last(m, 60)).fit(n_steps=30)
        Fitter(Valley(), optax.adam(0.2), loss_fn=Valley.loss).fit(n_steps=60)


def test_a_gradient_is_clipped():
    tried = []
    fitter = Fitter(
        Valley(),
        optax.sgd(1.0),
        loss_fn=Valley.loss,
        clip=0.01,
        callbacks=lambda info: tried.append(
            [float(info["model"].x.val.value), float(info["model"].y.val.value)]
        ),
    )
    fitter.fit(n_steps=6)
    np.testing.assert_allclose(np.linalg.norm(np.diff(tried, axis=0), axis=1), 0.01, rtol=1e-9)


def test_an_optimiser_starts_anew_where_it_only_leads_to_what_is_not_finite():
    """Its second step is far too long, and stays so after ten halvings; its first is not."""
    schedule = optax.piecewise_constant_schedule(0.1, {1: 1e7})
    result = Fitter(
        Gain(0.0),
        optax.chain(optax.scale_by_schedule(schedule), optax.scale(-1.0)),
        loss_fn=lambda m: jnp.where(jnp.abs(m.gain.value()) > 1.0, jnp.nan, (m.gain.value() - 0.5) ** 2),
    ).fit(n_steps=13)
    assert result.n_skipped == 10 and np.isfinite(result.history[[0, 1, 12]]).all()
    assert result.best_loss == result.history[12] < result.history[1] < result.history[0]


# --- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "optimizer", "match"),
    [
        ("nevergrad", "NGOpt", "NGOpt of nevergrad fails with the versions"),
        ("nevergrad", "Annealing", "nevergrad has no optimiser 'Annealing'; take 'CMA', 'DE', 'PSO'"),
        (
            "nevergrad",
            {"method": "CMA", "population": 2},
            "population is 2; it must be a whole number, at least 4",
        ),
        ("cmaes", {"sd": 0.0}, "sd is 0.0; it must be positive"),
        ("grad", [(optax.adam(0.1), 5)], "the stages of the optimizer say their own numbers of steps"),
    ],
)
def test_options_that_cannot_be_are_refused(backend, optimizer, match):
    with pytest.raises(ValueError, match=match):
        Fitter(Gain(), optimizer, loss_fn=lambda m: m.gain.value() ** 2, backend=backend).fit(n_steps=5)


def test_parameters_keep_units_and_types_in_every_backend():
    class Decay(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.tau = Param(5.0 * u.ms, t=SoftplusT(0.0 * u.ms))

    def predict(model):
        return u.math.exp(-np.arange(30.0) * u.ms / model.tau.value())

    target = np.exp(-np.arange(30.0) / 8.0)
    for backend in ("cmaes", "nevergrad"):
        result = Fitter(Decay(), predict=predict, backend=backend).fit(target, n_steps=40, key=KEY)
        assert result.best_params["tau"].unit == u.ms
        np.testing.assert_allclose(result.best_params["tau"].to_decimal(u.ms), 8.0, rtol=1e-2)
        np.testing.assert_allclose(result.prediction, target, atol=1e-2)
        assert result.seeds == [np.asarray(jax.random.key_data(KEY)).tolist()]
