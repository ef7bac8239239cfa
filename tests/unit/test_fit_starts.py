"""Several starts: one compiled program for all of them, where they are drawn, and which one is the result."""

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brainstate.nn import GaussianReg, Param, SigmoidT
from test_fit_backends import KEY, LBFGS, Gain, Valley

from brainloom import FitResult, Fitter, viz
from brainloom.fit.cma_es import CMAES
from brainloom.fit.fitter import StartError
from brainloom.fit.parameters import positive
from brainloom.fit.priors import Gaussian
from brainloom.fit.starts import draw, scales
from brainloom.fit.trainable import Trainable

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
    fitter = Fitter(Valley(), optimizer, loss_fn=loss, backend=backend, callbacks=fitter_seen.append)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        result = fitter.fit(n_steps=20, n_starts=2, key=KEY)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    generation = {"cmaes": 2 * 12, "nevergrad": 2 * 6, "grad": 2}[backend]
    assert len(fitter_seen) == 20 * generation == result.n_evaluations
    # callbacks convert points themselves, which compiles small things once, with the first points that they see
    during = [seen for seen in compiled if seen < 20 * generation]
    assert during and max(during) <= 2 * generation
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
    if backend != "cmaes":  # whose populations have other random numbers for every start, see below
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


@pytest.mark.parametrize(("backend", "optimizer"), [("cmaes", 6), ("nevergrad", "CMA"), ("nevergrad", "DE")])
def test_populations_of_all_starts_in_one_call_are_those_one_after_the_other(backend, optimizer):
    def fit(n_starts, chunk=None):
        fitter = Fitter(Valley(), optimizer, loss_fn=Valley.loss, backend=backend, chunk=chunk)
        return fitter.fit(n_steps=12, n_starts=n_starts, key=KEY)

    together = fit(3).starts.history
    assert together.shape == (3, 12 * 6)
    # rounding of batches of other sizes: searches see the order of losses alone
    np.testing.assert_allclose(fit(3, chunk=6).starts.history, together, rtol=1e-9)
    np.testing.assert_allclose(fit(1).history, together[0], rtol=1e-9)


def test_every_population_is_a_search_of_its_own():
    """CMA-ES by hand from each start, on the raw values x and logit((y + 3) / 6)."""
    first = {}

    def note(info):
        if info["step"] == 0:
            first[info["start"]] = [float(info["params"][name]) for name in "xy"]

    found = Fitter(Valley(), 6, loss_fn=Valley.loss, backend="cmaes", callbacks=note).fit(
        n_steps=12, n_starts=3, key=KEY
    )
    words = np.asarray(jax.random.key_data(KEY)).tolist()
    for k, (x, y) in first.items():
        raw = np.array([x, np.log((y + 3.0) / (3.0 - y))])
        search, history = CMAES(np.zeros(2), 0.5, 6, [*words, k]), []
        for _ in range(12):
            points = raw + search.ask()
            x, y = points[:, 0], 6.0 / (1.0 + np.exp(-points[:, 1])) - 3.0
            losses = (1.0 - x) ** 2 + 10.0 * (y - x * x) ** 2
            search.tell(losses)
            history.extend(losses)
        np.testing.assert_allclose(found.starts.history[k], history, rtol=1e-8, atol=1e-12)


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
    # a batch makes its steps (of one point, or generations of six) together; scipy has not begun the last start
    assert seen[1] == 4 and seen[2] == {"grad": 4, "scipy": 0, "cmaes": 6}[backend]
    assert np.isnan(result.starts.loss[2]) == (backend == "scipy") and np.isfinite(result.best_loss)
    if backend != "scipy":
        assert result.message == "ended by a callback" and result.n_steps == (4 if backend == "grad" else 1)
