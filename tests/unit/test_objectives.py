"""The contract of objectives: types are said and never guessed, units, errors, composition, use in a fit."""

from __future__ import annotations

import pickle

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import Fitter
from brainloom import objectives as o
from brainloom.core.units import UnitError
from brainloom.fit.fitter import timeseries_rmse

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 240, 5)) @ (np.eye(5) + 0.4 * RNG.normal(size=(5, 5)))
FC_X, FC_Y = np.corrcoef(X.T), np.corrcoef(Y.T)
FREQUENCY = np.linspace(0.5, 20.0, 40)
PSD_Y = o.PSD(FREQUENCY, np.ones((5, 40)))


# Compiled for one run: what takes long is the compiler.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def run(objective, prediction, target):
    return jax.jit(lambda a, b: objective(a, b), compiler_options=QUICK)(prediction, target)


def same(a, b, rtol=1e-12):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14)


# --- types -----------------------------------------------------------------------------------------------


def test_signals_and_features_are_the_same_on_either_side():
    for objective in (o.fc_corr(), o.fc_rmse(), o.fc_corr(as_loss=True)):
        expected = objective(X, Y)
        for prediction in (X, o.FC(FC_X), jnp.asarray(X), X * u.mV, X[:, None]):
            for target in (Y, o.FC(FC_Y), Y.tolist()):
                same(objective(prediction, target), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("objective", "wrong", "message"),
    [
        (o.fc_corr(), o.FCD(FC_Y), r"target of fc_corr is FCD; it takes a signal .* or objectives\.FC\("),
        (o.fc_rmse(), o.EnvelopeFC(FC_Y), "target of fc_rmse is EnvelopeFC"),
        (o.lagged_fc(), o.FC(FC_Y), r"target of lagged_fc is FC; .* objectives\.LaggedFC"),
        (o.fcd(tr=0.72), o.FC(FC_Y), r"target of fcd is FC; .* objectives\.FCD"),
        (o.fcd_ks(tr=0.72), PSD_Y, "target of fcd_ks is PSD"),
        (o.psd_log(dt=0.02), o.FC(FC_Y), r"target of psd_log is FC; .* objectives\.PSD"),
        (o.spectral_peak((5, 15), dt=0.02), o.BandPower(FC_Y), "target of spectral_peak is BandPower"),
        (o.envelope_fc(dt=0.02), o.FC(FC_Y), r"target of envelope_fc is FC; .* objectives\.EnvelopeFC"),
        (o.level(), o.Variance(FC_Y), r"target of level is Variance; .* objectives\.Level"),
        (o.synchrony(dt=0.72), o.Metastability(0.1), r"target of synchrony is Metastability; .*Synchrony"),
        (o.erp([1.0], dt=0.02), o.Level(FC_Y), r"target of erp is Level; .* objectives\.ERP"),
        (o.wishart(), o.FC(FC_Y), r"target of wishart is FC; .* objectives\.Covariance"),
        (o.timeseries_rmse(), o.FC(FC_Y), r"target of timeseries_rmse is FC; it takes a signal"),
        (o.gaussian(1.0), o.Normal(Y, 1.0), r"target of gaussian is Normal"),
        (o.fc_corr(), FC_Y, r"looks like a matrix of correlations; write objectives\.FC\(matrix\)"),
        (o.envelope_fc(dt=0.02), FC_Y, r"write objectives\.EnvelopeFC\(matrix\)"),
        (o.fc_corr(), None, "target of fc_corr is None; it takes"),
        (o.fc_corr(), "fc.tsv", "target of fc_corr is 'fc.tsv'"),
        (o.fc_corr(), Y + 1j, "is complex"),
    ],
)
def test_what_has_the_wrong_type_is_named(objective, wrong, message):
    # while the prediction is traced, before anything is compiled
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(lambda x: objective(x, wrong), X)


def test_cross_spectra_are_never_plain():
    with pytest.raises(TypeError, match=r"write objectives\.CSD"):
        o.cross_spectra(3)(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    ("objective", "prediction", "target", "message"),
    [
        (o.fc_corr(), X[:, 0], Y, r"has shape \(240,\); it must be \(time, ..., region\)"),
        (o.fc_corr(), X[:, :4], Y, r"fc_corr compares shapes that differ: \(4, 4\) .* \(5, 5\)"),
        (o.fc_corr(), X[:, :2], Y[:, :2], "needs at least 3 regions, not 2"),
        (o.fc_corr(), X[:1], Y, "has 1 samples; it needs at least 2"),
        (o.fc_corr(), X, o.FC(FC_Y[:3]), r"has shape \(3, 5\); it must be \(..., n, n\)"),
        (o.fc_corr(), {"x": X, "ts": X}, Y, r"dict of x, ts; .* objectives\.on\(key, objective\)"),
        (o.lagged_fc(2), X, o.LaggedFC(FC_Y, 3), "is of lag 3, but the objective of lag 2"),
        (
            o.fcd(window=60, step=10),
            X,
            o.FCD(FC_Y, 60, 5),
            "made with a step of 5 samples, the objective has 10",
        ),
        (
            o.fcd(window=200, step=10, tr=0.72),
            X,
            Y,
            "240 samples, which is 5 windows of 200 every 10; it needs more than 20",
        ),
        (o.fcd(window=60, step=10), X[:, None].repeat(2, 1), Y, "has 2 realisations; .* jax.vmap"),
        (o.fcd_ks(window=60, step=30), X, o.FCD(np.full((7, 7), np.nan)), "has no finite FCD"),
        (o.psd_log(), X, PSD_Y, "is a signal; give dt"),
        (o.psd_log(dt=0.05), X, PSD_Y, "ends at 10 Hz, but psd_log reads that of the target up to 20 Hz"),
        (o.psd_log(dt=0.02, band=(30, 40)), X, Y, r"no frequency .* psd_log reads lies in \(30.0, 40.0\) Hz"),
        (o.psd_log(dt=0.02), X[:, :4], PSD_Y, "4 regions of the prediction with 5 of the target"),
        (o.psd_log(dt=0.02), X, o.PSD(FREQUENCY, np.ones((5, 39))), r"\(5, 39\) at \(40,\) frequencies"),
        (o.band_power([(8, 13)], dt=0.02), X, o.BandPower(np.ones((5, 2))), r"must be \(..., region, 1\)"),
        (
            o.spectral_peak((5, 15), dt=0.02),
            X,
            o.PeakFrequency(np.full(5, np.nan)),
            "no region .* has a peak",
        ),
        (o.envelope_fc((8, 12)), X, Y, "is a signal; give dt"),
        (o.envelope_fc((8, 30), dt=0.02), X, Y, "must lie between 0 and 25 Hz"),
        (
            o.envelope_fc((8, 12), dt=0.02),
            X[:100],
            Y,
            "a signal lasts 2 s; envelopes between 8 and 12 Hz need at",
        ),
        (o.erp([1.0, 4.5], dt=0.02), X, Y, "the window of an event leaves the prediction"),
        (
            o.erp([1.0], dt=0.02),
            X,
            o.ERP(Y[:4]),
            r"the window holds 31 samples, so it must be \(31, region\)",
        ),
        (o.synchrony(), X, o.Synchrony(0.5), "is a signal; give dt"),
        (o.gaussian(), X, Y, r"gaussian needs the noise: give sd, or objectives\.Normal"),
        (o.gaussian(-1.0), X, Y, "standard deviation of the noise of gaussian must be positive"),
        (o.wishart(), X, o.Covariance(np.eye(5)), "wishart needs the degrees of freedom"),
        (
            o.cross_spectra(),
            o.CSD([1.0], np.eye(2)[None] + 0j),
            o.CSD([2.0], np.eye(2)[None] + 0j, 3),
            "the same frequencies",
        ),
        (
            o.cross_spectra(),
            o.CSD([1.0], np.eye(2)[None] + 0j),
            o.CSD([1.0], np.eye(2)[None] + 0j),
            "needs n_tapers",
        ),
        (o.timeseries_rmse(), X, Y[1:], r"has shape \(240, 5\), but the target \(239, 5\)"),
    ],
)
def test_what_does_not_fit_is_an_error(objective, prediction, target, message):
    with pytest.raises(ValueError, match=message):  # nothing has to be computed to know
        jax.eval_shape(lambda: objective(prediction, target))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.fcd(), r"window is not given, .* give tr \(windows of 60 s every 3 s\)"),
        (lambda: o.fcd_ks(window=60 * u.second, step=3), "window is a duration, but the interval"),
        (lambda: o.fcd(window=30.5, step=5), "window is 30.5; it must be a whole number of samples"),
        (lambda: o.fcd(window=30, step=5, window_size=30), "not both"),
        (lambda: o.fcd_ks(30, 5, n_diag=0), "n_diag is 0"),
        (lambda: o.fcd_ks(30, 5, midpoints=[0.0, 0.1, 0.5]), "midpoints must be evenly spaced"),
        (lambda: o.fcd_ks(30, 5, bw_method="wide"), "bw_method is 'wide'"),
        (lambda: o.lagged_fc(0), "lag is 0"),
        (lambda: o.lagged_fc(measure="cos"), "measure is 'cos'; it must be one of 'corr', 'rmse'"),
        (lambda: o.psd_log(dt=2.0), "window is 2 s, 1 samples of 2 s; a spectrum needs at least 8"),
        (lambda: o.psd_log(dt=-1.0), "dt is -1 s; it must be positive"),
        (lambda: o.psd_log(band=(4, 2)), r"band is \(4, 2\) Hz; it must be rising"),
        (lambda: o.band_power([]), "bands is empty"),
        (lambda: o.spectral_peak((5, 15), sharpness=0.0), "sharpness is 0.0; it must be positive"),
        (lambda: o.erp([], dt=0.02), "at least one time"),
        (lambda: o.erp([1.0], dt=0.02, baseline=(-1.0, 0.0)), "it must lie in the window"),
        (lambda: o.combine(), "at least one pair"),
    ],
)
def test_options_are_checked_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- units -----------------------------------------------------------------------------------------------


def test_units_are_converted_where_values_are_compared():
    mV, volt = X * u.mV, 1e-3 * Y * u.volt
    # differences are in the unit of the target
    same(run(o.timeseries_rmse(), mV, volt), 1e-3 * run(o.timeseries_rmse(), X, Y))
    same(run(o.cosine_sim(), mV, volt), run(o.cosine_sim(), X, Y))
    same(run(o.level(), mV, volt), 1e-3 * run(o.level(), X, Y))
    same(run(o.amplitude(), mV, volt), 1e-3 * run(o.amplitude(), X, Y))
    same(run(o.amplitude(relative=True), mV, volt), run(o.amplitude(relative=True), X, Y))
    same(run(o.variance("rmse"), mV, o.Variance(Y.var(axis=0) * u.mV**2)), run(o.variance("rmse"), X, Y))
    same(run(o.erp([1.0], dt=20 * u.ms), mV, volt), 1e-3 * run(o.erp([1.0], dt=0.02), X, Y))
    same(run(o.psd_log(dt=20 * u.ms), mV, volt), run(o.psd_log(dt=0.02), X, Y), rtol=1e-9)
    psd = o.PSD(FREQUENCY * 1e-3 * u.kHz, np.ones((5, 40)) * 1e-6 * u.volt**2 / u.Hz)
    same(run(o.psd_log(dt=0.02), mV, psd), run(o.psd_log(dt=0.02), X, PSD_Y), rtol=1e-9)
    bands = {"alpha": (8 * u.Hz, 13 * u.Hz)}
    power = o.BandPower(np.ones((5, 1)) * u.mV**2)
    same(
        run(o.band_power(bands, dt=0.02), mV, power),
        run(o.band_power(bands, dt=0.02), X, o.BandPower(np.ones((5, 1)))),
    )
    peak = o.PeakFrequency(np.full(5, 0.01) * u.kHz)
    found = o.spectral_peak((5, 15), dt=0.02)
    same(run(found, mV, peak), run(found, X, o.PeakFrequency(np.full(5, 10.0))))
    n = X.size
    same(run(o.gaussian(2.0 * u.mV), mV, volt), run(o.gaussian(2.0), X, Y) + n * np.log(1e-3), rtol=1e-9)
    covariance = o.Covariance(np.cov(Y.T) * 1e-6 * u.volt**2, 50.0)
    difference = run(o.wishart(), mV, covariance) - run(o.wishart(), X, o.Covariance(np.cov(Y.T), 50.0))
    same(difference, 0.5 * 50 * 5 * np.log(1e-6), rtol=1e-9)


def test_units_that_cannot_be_compared():
    for objective in (
        o.timeseries_rmse(),
        o.cosine_sim(),
        o.level(),
        o.amplitude(),
        o.psd_log(dt=0.02),
        o.wishart(),
    ):
        for target in (Y * u.Hz, Y):
            with pytest.raises(UnitError, match="but the target in"):
                jax.eval_shape(objective, X * u.mV, target)


def test_units_do_not_matter_where_only_shapes_are_compared():
    for objective in (o.fc_corr(), o.variance(), o.psd_log(dt=0.02, relative=True)):
        same(run(objective, X * u.mV, Y * u.Hz), run(objective, X, Y), rtol=1e-9)
    for objective in (o.lagged_fc(), o.fcd_ks(window=60, step=30), o.erp([1.0], dt=0.02, measure="corr")):
        assert jax.eval_shape(objective, X * u.mV, Y * u.Hz).shape == ()


# --- composition -----------------------------------------------------------------------------------------


def test_the_root_mean_square_is_an_objective_and_makes_one():
    assert o.timeseries_rmse() is o.timeseries_rmse is timeseries_rmse
    same(o.timeseries_rmse(X, Y), o.timeseries_rmse()(X, Y))
    same(o.timeseries_rmse(X, Y), np.sqrt(np.mean((X - Y) ** 2)))


def test_a_sum_of_objectives():
    parts = (o.fc_corr(as_loss=True), o.fc_rmse(), lambda prediction, target: jnp.mean(prediction))
    loss = o.combine((2.0, parts[0]), (0.5, parts[1]), (1, parts[2]))
    same(loss(X, Y), 2 * parts[0](X, Y) + 0.5 * parts[1](X, Y) + X.mean())
    same(o.combine((3.0, loss))(X, Y), 3 * loss(X, Y))
    for wrong in (o.fc_corr(), (o.fc_corr(), 1.0), (1.0, 2.0), (1.0,)):
        with pytest.raises(TypeError, match=r"combine takes pairs \(weight, objective\)"):
            o.combine(wrong)


def test_parts_of_a_prediction():
    loss = o.combine((1.0, o.on("bold", o.fc_rmse())), (2.0, o.on("eeg", o.psd_log(dt=0.02), "psd")))
    found = loss({"bold": X, "eeg": Y, "ts": 0}, {"bold": o.FC(FC_Y), "psd": PSD_Y})
    same(found, o.fc_rmse()(X, Y) + 2 * o.psd_log(dt=0.02)(Y, PSD_Y), rtol=1e-9)
    same(o.on("x", o.fc_rmse())({"x": X}, Y), o.fc_rmse()(X, Y))  # a target that is no dict is for all
    with pytest.raises(TypeError, match=r"on\('bold', ...\) takes a prediction that is a dict, not ndarray"):
        loss(X, Y)
    with pytest.raises(ValueError, match="the target has no entry 'psd'; it has bold"):
        loss({"bold": X, "eeg": Y}, {"bold": o.FC(FC_Y)})
    with pytest.raises(TypeError, match="objective is 'fc'"):
        o.on("bold", "fc")


def test_objectives_are_shown_pickled_and_shared():
    for objective in (
        o.fc_rmse(include_diagonal=True),
        o.fcd_ks(tr=0.72),
        o.combine((1.0, o.on("x", o.erp([1.0], dt=0.02)))),
    ):
        again = pickle.loads(pickle.dumps(objective))
        assert repr(again) == repr(objective)
    assert repr(o.fc_rmse()) == "fc_rmse(include_diagonal=False)"
    same(pickle.loads(pickle.dumps(o.fc_rmse()))(X, Y), o.fc_rmse()(X, Y))


def test_features_go_through_jit_vmap_and_trees():
    @jax.jit
    def loss(x, target):
        return o.fc_rmse()(x, target)

    same(loss(X, o.FC(FC_Y)), o.fc_rmse()(X, Y), rtol=1e-9)
    many = jax.vmap(lambda x, m: o.fc_rmse()(x, o.FC(m)))(np.stack([X, Y]), np.stack([FC_Y, FC_X]))
    same(many, [o.fc_rmse()(X, Y), o.fc_rmse()(Y, X)], rtol=1e-9)
    stacked = jax.tree.map(lambda *one: np.stack(one), o.FC(FC_X), o.FC(FC_Y))
    same(jax.vmap(o.fc_rmse())(np.stack([X, X]), stacked), [0.0, o.fc_rmse()(X, Y)], rtol=1e-6)
    assert jax.tree.structure(o.FCD(FC_X, 60, 5)) != jax.tree.structure(o.FCD(FC_X, 60, 10))


def test_single_precision_stays_single():
    x, y = X.astype(np.float32), Y.astype(np.float32)
    for objective in (o.fc_corr(), o.psd_log(dt=0.02)):
        with jax.enable_x64(False):
            single = jax.jit(objective)(x, y)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, jax.jit(objective)(X, Y), rtol=2e-4)
    for objective in (o.fcd_ks(window=60, step=30), o.spectral_peak((5, 15), dt=0.02), o.synchrony(dt=0.72)):
        assert jax.eval_shape(objective, jnp.asarray(x), jnp.asarray(y)).dtype == jnp.float32


class Mixture(brainstate.nn.Module):
    """A signal between two, by one parameter."""

    def __init__(self):
        super().__init__()
        self.share = brainstate.nn.Param(0.2, fit=True)


def test_a_fit_to_a_feature():
    def predict(model):
        return model.share.value() * X + (1.0 - model.share.value()) * Y

    target = o.FC(np.corrcoef((0.7 * X + 0.3 * Y).T))
    result = Fitter(Mixture(), predict=predict, objective=o.fc_rmse(), backend="scipy").fit(
        target, n_steps=40
    )
    np.testing.assert_allclose(result.best_params["share"], 0.7, atol=1e-3)
