"""Every backend reaches the same optimum; populations and starts are one program; noise, divergence, chaos."""

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
from brainstate.nn import GaussianReg, Param, SigmoidT, SoftplusT

from brainloom import FitResult, Fitter, JansenRitStep, Simulator, objectives, viz
from brainloom.fit.cma_es import CMAES
from brainloom.fit.fitter import StartError
from brainloom.fit.parameters import positive
from brainloom.fit.population import mirrored
from brainloom.fit.priors import Gaussian
from brainloom.fit.starts import draw, scales
from brainloom.fit.trainable import Trainable

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
        ("scipy", None, 100, 1e-4),
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


# --- one program ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "optimizer"), [("cmaes", 12), ("nevergrad", "DE"), ("grad", None)])
def test_nothing_is_compiled_after_the_first_generation(backend, optimizer):
    compiled, traced = [], []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(len(fitter_seen))

    def loss(model):
        traced.append(None)
        return model.loss()

    fitter_seen = []
    n_starts = 2 if backend == "grad" else 1
    fitter = Fitter(Valley(), optimizer, loss_fn=loss, backend=backend, callbacks=fitter_seen.append)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        result = fitter.fit(n_steps=20, n_starts=n_starts, key=KEY)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    generation = {"cmaes": 12, "nevergrad": 6, "grad": 2}[backend]
    assert len(fitter_seen) == 20 * generation == result.n_evaluations
    # callbacks convert points themselves, which compiles small things once, with the first points that they see
    assert compiled and max(compiled) <= 2 * generation
    assert len(traced) == 1


def test_a_population_in_chunks_gives_the_same_numbers():
    def fit(chunk):
        fitter = Fitter(Valley(), 10, loss_fn=Valley.loss, backend="cmaes", chunk=chunk)
        return fitter.fit(n_steps=8, key=KEY).history

    np.testing.assert_allclose(fit(4), fit(None), rtol=1e-9)  # rounding of batches of other sizes


@pytest.mark.parametrize(
    ("backend", "optimizer"), [("grad", optax.adam(0.1)), ("grad", LBFGS), ("scipy", None), ("cmaes", None)]
)
def test_starts_in_one_program_are_those_of_single_fits(backend, optimizer):
    first = {}

    def note(info):
        if info["step"] == 0:
            first[info["start"]] = {name: float(value) for name, value in info["params"].items()}

    together = Fitter(Valley(), optimizer, loss_fn=Valley.loss, backend=backend, callbacks=note).fit(
        n_steps=15, n_starts=3, key=KEY
    )
    starts = together.starts
    assert first[0]["x"] == -1.0 and len({one["x"] for one in first.values()}) == 3
    if backend != "cmaes":  # whose populations have other random numbers for every start
        for k, params in first.items():
            alone = Fitter(Valley(**params), optimizer, loss_fn=Valley.loss, backend=backend).fit(n_steps=15)
            length = len(alone.history)
            # the same operations, batched or not: rounding, which a valley enlarges
            np.testing.assert_allclose(starts.history[k, :length], alone.history, rtol=1e-6, atol=1e-12)
            assert np.isnan(starts.history[k, length:]).all()
    chosen = starts.chosen
    assert together.best_loss == starts.loss[chosen] == np.min(starts.loss)
    assert float(together.best_params["x"]) == float(starts.params["x"][chosen])
    np.testing.assert_array_equal(together.history, starts.history[chosen][: len(together.history)])
    assert float(starts.spread()["x"]) == pytest.approx(float(np.std(np.asarray(starts.params["x"]))))


# --- starts --------------------------------------------------------------------------------------------


class Several(brainstate.nn.Module):
    """Parameters of every sort that starts are drawn for."""

    def __init__(self):
        super().__init__()
        self.boxed = Param(2.0)
        self.interval = Param(np.full(3, 0.1), t=SigmoidT(0.0, 1.0))
        self.rate = Param(np.array([5.0, -20.0]) * u.mV)
        self.prior = Param(0.0, reg=GaussianReg(4.0, 0.1))
        self.tau = positive(8.0, "ms", prior=Gaussian(20.0 * u.ms, 0.5 * u.ms))


def test_starts_come_from_search_space_prior_or_around_the_values():
    model = Several()
    trainable = Trainable(model)
    bounds = trainable.bounds({"boxed": (1.0, 3.0)})
    random = brainstate.random.DEFAULT.value
    starts = [trainable.constrained(leaves) for leaves in draw(trainable, bounds, 150, KEY, 0.5)]
    assert brainstate.random.DEFAULT.value is random

    def values(name, unit=1.0):
        return np.array([np.asarray(start[name] / unit) for start in starts])

    for name, unit in {"boxed": 1.0, "interval": 1.0, "rate": u.mV, "prior": 1.0, "tau": u.ms}.items():
        np.testing.assert_allclose(values(name, unit)[0], getattr(model, name).value() / unit, rtol=1e-12)
    # The standard error of the mean of 149 draws is 1/12 of their standard deviation, that of the latter 1/17:
    # about four of them are allowed.
    boxed = values("boxed")[1:]
    assert boxed.min() >= 1.0 and boxed.max() <= 3.0 and abs(boxed.mean() - 2.0) < 0.33 * boxed.std()
    assert abs(boxed.std() - 2.0 / np.sqrt(12.0)) < 0.12
    logits = np.log(values("interval") / (1.0 - values("interval")))[1:]
    np.testing.assert_allclose(logits.mean(axis=0), np.log(1.0 / 9.0), atol=0.17)
    np.testing.assert_allclose(logits.std(axis=0), 0.5, atol=0.12)
    rate = values("rate", u.mV)[1:]
    np.testing.assert_allclose(rate.std(axis=0), 0.5 * 20.0, rtol=0.25)
    assert abs(values("prior")[1:].mean() - 4.0) < 0.033 and abs(values("prior")[1:].std() - 0.1) < 0.025
    assert abs(values("tau", u.ms)[1:].mean() - 20.0) < 0.17
    again = [trainable.constrained(leaves) for leaves in draw(trainable, bounds, 150, KEY, 0.5)]
    np.testing.assert_array_equal(values("tau", u.ms), [start["tau"] / u.ms for start in again])
    sizes = dict(zip(trainable.states, scales(trainable, bounds), strict=True))
    assert sizes["boxed"] == 0.5 and (sizes["interval"] == 1.0).all() and (sizes["rate"] == 20.0).all()


def test_the_start_with_the_lowest_validation_loss_is_the_result(tmp_path):
    """Two valleys: the deeper one of the loss is the worse one of the validation data."""

    def wells(model, deeper):
        x = model.gain.value()
        return (x * x - 1.0) ** 2 + 0.1 * deeper * x

    def fit(**more):
        fitter = Fitter(Gain(0.3), optax.adam(0.1), loss_fn=lambda model: wells(model, 1.0))
        return fitter.fit(n_steps=60, n_starts=6, key=KEY, spread=6.0, **more)

    lowest, validated = fit(), fit(validation=lambda model: wells(model, -1.0))
    assert lowest.best_params["gain"] < -0.9 and validated.best_params["gain"] > 0.9
    np.testing.assert_array_equal(lowest.starts.loss, validated.starts.loss)
    starts = validated.starts
    assert starts.chosen == np.argmin(starts.validation) and starts.validation.shape == (6,)
    assert validated.validation_loss == starts.validation.min() and lowest.starts.validation is None
    validated.save(tmp_path / "fit.npz")
    back = FitResult.load(tmp_path / "fit.npz")
    table = back.to_xarray()
    assert table.identical(validated.to_xarray()) and table.attrs["chosen_start"] == starts.chosen
    assert table["start_gain"].dims == ("start",) and table["start_history"].shape == (6, 60)
    assert table["start_validation_loss"].shape == (6,)
    np.testing.assert_array_equal(back.starts.history, starts.history)
    assert len(viz.plot_fit_history(back.starts).lines) == 6

    # a target is held against the same prediction
    def predict(model):
        return model.gain.value() * jnp.ones(3)

    held = Fitter(Gain(0.3), predict=predict).fit(np.ones(3), 1, validation=np.zeros(3))
    np.testing.assert_allclose([held.best_loss, held.validation_loss], [0.7, 0.3], rtol=1e-12)


@pytest.mark.parametrize("backend", ["grad", "scipy", "cmaes"])
def test_a_start_that_diverges_is_never_the_result(backend):
    def cliff(model):
        x = model.gain.value()
        return jnp.where(jnp.abs(x) > 1.0, jnp.nan, (x - 0.5) ** 2)

    options = {"n_steps": 30, "n_starts": 8, "key": KEY, "spread": 2.0}
    result = Fitter(Gain(0.0), loss_fn=cliff, backend=backend).fit(**options)
    lost = np.isnan(result.starts.loss)
    assert 0 < lost.sum() < 8 and not lost[result.starts.chosen]
    assert np.isfinite(result.best_loss) and np.isfinite(result.best_params["gain"])
    np.testing.assert_array_equal(lost, np.isnan(np.asarray(result.starts.params["gain"])))
    assert np.isfinite(result.starts.spread()["gain"])
    model = Gain(3.0)
    with pytest.raises(StartError, match=r"the loss is nan at the start \(gain = 3\)"):
        Fitter(model, loss_fn=cliff, backend=backend).fit(**{**options, "n_starts": 2, "spread": 0.01})
    assert float(model.gain.value()) == 3.0


@pytest.mark.parametrize("backend", ["grad", "scipy", "cmaes"])
def test_a_callback_ends_all_starts(backend):
    def stop(info):
        return info["step"] == 3 and info["start"] == 1

    fitter = Fitter(Valley(), loss_fn=Valley.loss, backend=backend, callbacks=stop)
    result = fitter.fit(n_steps=5, n_starts=3, key=KEY)
    seen = np.isfinite(result.starts.history).sum(axis=1)
    # a batch makes its steps together; otherwise the last start was not begun
    assert seen[1] == 4 and seen[2] == (4 if backend == "grad" else 0)
    assert np.isnan(result.starts.loss[2]) == (backend != "grad") and np.isfinite(result.best_loss)
    assert backend != "grad" or (result.message == "ended by a callback" and result.n_steps == 4)


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
