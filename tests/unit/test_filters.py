"""Filters against scipy and their design: gain, phase, edges, units, derivatives, composition."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from brainloom.core.units import UnitError
from brainloom.observe import Sample, TemporalAverage
from brainloom.observe.filters import BandPass, GlobalAverage, Subsample, mirrored, trend
from brainloom.simulate import Simulator

RNG = np.random.default_rng(11)
BANDS = [(0.01, 0.1), (None, 0.1), (0.01, None)]


def amplitudes(filtered, frequency, t, inside):
    """Amplitude and phase of what is left of cosines, by projection on the middle of the series."""
    wave = np.exp(-2j * np.pi * frequency * t[inside, None])
    window = signal.windows.hann(inside.stop - inside.start)[:, None]
    return 2 * (filtered[inside] * wave * window).sum(0) / window.sum()


@pytest.mark.parametrize(("low", "high"), BANDS)
@pytest.mark.parametrize(
    "design",
    [
        {},
        {"transition": (0.01, 0.05)},
        {"order": 2},
        {"method": "fir", "transition": (0.01, 0.03)},
        {"method": "fir", "order": 400},
    ],
    ids=str,
)
def test_sines_come_out_with_the_gain_of_the_design_and_their_phase(low, high, design):
    dt, n = 0.72, 8000
    one = BandPass(low, high, **design)
    frequency = np.array([0.004, 0.008, 0.01, 0.02, 0.05, 0.08, 0.1, 0.12, 0.2, 0.5])
    t = np.arange(n) * dt
    x = np.cos(2 * np.pi * frequency * t[:, None])
    found = amplitudes(np.asarray(one(x, dt)), frequency, t, slice(2000, 6000))
    gain = one.gain(frequency, 1 / dt)
    # side lobes of the window of projection, and mirror images that reach the middle
    np.testing.assert_allclose(found.real, gain, atol=2e-4)
    np.testing.assert_allclose(found.imag, 0.0, atol=2e-4)
    inside = (frequency > 0.016 if low else True) & (frequency < 0.07 if high else True)
    assert (gain[inside] > 0.9).all()
    if low:
        assert abs(gain[2] - 0.5) < 0.01 and gain[0] < 0.2
    if high:
        assert abs(gain[6] - 0.5) < 0.01 and gain[-1] < 3e-3


def test_raised_cosine_is_the_design_exactly_on_waves_that_the_mirror_continues():
    n, dt = 500, 0.5
    one = BandPass(0.05 * u.Hz, 0.0002 * u.kHz, transition=0.04, detrend=False)
    k = np.array([10, 25, 33, 50, 75, 100, 190, 205, 300])
    frequency = k / (2 * n * dt)
    waves = np.cos(np.pi * k * (np.arange(n)[:, None] + 0.5) / n)
    rise = 0.5 * (1 + np.sin(np.pi * np.clip((frequency - 0.05) / 0.04, -0.5, 0.5)))
    fall = 0.5 * (1 - np.sin(np.pi * np.clip((frequency - 0.2) / 0.04, -0.5, 0.5)))
    np.testing.assert_allclose(one(waves, dt), rise * fall * waves, atol=1e-13)
    np.testing.assert_allclose((rise * fall)[[0, 1, 4, 5, 8]], [0.0, 0.5, 1.0, 0.5, 0.0], atol=1e-14)


@pytest.mark.parametrize(("low", "high"), BANDS)
def test_fir_is_the_convolution_of_scipy_with_the_mirrored_series(low, high):
    dt, n = 0.72, 900
    x = RNG.normal(size=(n, 2, 3)) + np.linspace(0, 3, n)[:, None, None]
    one = BandPass(low, high, method="fir", order=300)
    edges = [edge for edge in (low, high) if edge]
    taps = signal.firwin(301, edges, pass_zero=low is None, fs=1 / dt)
    np.testing.assert_allclose(one.taps(1 / dt), taps, rtol=1e-12)
    line = x - signal.detrend(x, axis=0)
    padded = np.pad(x - line, ((150, 150), (0, 0), (0, 0)), mode="symmetric")
    wanted = signal.fftconvolve(padded, taps[:, None, None], mode="valid", axes=0) + (
        line if low is None else 0.0
    )
    np.testing.assert_allclose(one(x, dt), wanted, atol=1e-12)
    np.testing.assert_allclose(trend(jnp.asarray(x)), line, atol=1e-12)


def test_length_of_fir_follows_from_the_transition():
    one = BandPass(8.0, 12.0, method="fir", transition=(2.0, 4.0))
    assert len(one.taps(250.0)) == 415  # 3.3 * 250 / 2 = 412.5, to the next length 2 n + 1
    # a Hamming window attenuates by 53 dB from half a transition beyond an edge
    assert (
        np.abs(one.gain(np.concatenate([np.arange(0, 7, 0.1), np.arange(13.1, 125, 0.1)]), 250.0)).max()
        < 3e-3
    )
    assert abs(one.gain(10.0, 250.0) - 1.0) < 3e-3


@pytest.mark.parametrize(("low", "high"), BANDS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_butterworth_is_scipys_forward_and_backward_filter(low, high, order):
    dt, n = 0.72, 3000
    kind, edges = {(True, True): ("bandpass", [low, high]), (False, True): ("lowpass", high)}.get(
        (low is not None, high is not None), ("highpass", low)
    )
    sos = signal.butter(order, edges, kind, fs=1 / dt, output="sos")
    one = BandPass(low, high, order=order)
    frequency = np.array([0.0, 0.002, 0.01, 0.03, 0.1, 0.3, 0.69])
    _, response = signal.sosfreqz(sos, worN=frequency, fs=1 / dt)
    np.testing.assert_allclose(one.gain(frequency, 1 / dt), np.abs(response) ** 2, atol=1e-10)
    x = signal.detrend(RNG.normal(size=(n, 3)), axis=0)
    wanted = signal.sosfiltfilt(sos, x, axis=0, padlen=1000)
    # away from the ends, where each continues the series in its own way; the longest memory is that of order 4
    np.testing.assert_allclose(one(x, dt)[700:-700], wanted[700:-700], atol=2e-3 * wanted.std())


def test_bold_band_is_the_one_of_the_preprocessing():
    from brainloom.analysis.clean import bandpass

    x = signal.detrend(RNG.normal(size=(1200, 4)), axis=0)
    wanted = bandpass(x, 0.72, band=(0.01, 0.1), order=2)
    found = np.asarray(BandPass(0.01, 0.1, order=2)(x, 0.72))
    np.testing.assert_allclose(found[300:-300], wanted[300:-300], atol=2e-3 * wanted.std())


def test_lines_are_taken_off_and_put_back():
    line = 3.0 + 0.02 * np.arange(600.0)[:, None] * np.array([1.0, -2.0])
    assert np.abs(BandPass(0.01, 0.1)(line, 0.72)).max() < 1e-12
    np.testing.assert_allclose(BandPass(None, 0.1)(line, 0.72), line, atol=1e-12)
    kept = np.asarray(BandPass(None, 0.1, detrend=False)(line, 0.72))
    assert np.abs(kept - line)[:5].max() > 1e-3, "the mirror of a line has a corner"


@pytest.mark.parametrize("method", ["fft", "fir"])
def test_derivative_in_the_signal(method):
    x, dt = jnp.asarray(RNG.normal(size=(300, 3))), 0.1
    one = BandPass(0.2, 2.0, method, transition=0.2)
    chain = lambda x: GlobalAverage([1.0, 2.0, 1.0])(Subsample(3)(one(x, dt), dt))  # noqa: E731
    score = jax.jit(lambda x: jnp.sum(jnp.sin(chain(x))))
    slope, toward = jax.jit(jax.grad(score))(x), jnp.asarray(RNG.normal(size=x.shape))
    difference = (score(x + 1e-6 * toward) - score(x - 1e-6 * toward)) / 2e-6
    np.testing.assert_allclose(jnp.sum(slope * toward), difference, rtol=1e-8)
    # without the line, the filter is symmetric: <a, F b> = <F a, b>
    one = BandPass(0.2, 2.0, method, transition=0.2, detrend=False)
    a, b = (jnp.asarray(RNG.normal(size=x.shape)) for _ in range(2))
    np.testing.assert_allclose(jnp.sum(a * one(b, dt)), jnp.sum(one(a, dt) * b), atol=1e-11)


@pytest.mark.parametrize("design", [{}, {"order": 3}, {"method": "fir", "transition": 0.01}], ids=str)
def test_single_precision_is_close(design):
    x = 100.0 + RNG.normal(size=(1000, 2)).cumsum(0)
    one = BandPass(0.01, 0.1, **design)
    double, single = one(x, 0.72), one.series({}, jnp.asarray(x, jnp.float32), 0.72)
    assert single.dtype == jnp.float32
    # rounding of the numbers that come in, about 100, and of the transform
    assert np.abs(single - double).max() < 3e-5


def test_subsampling_keeps_the_end_of_each_interval():
    x, ts = RNG.normal(size=(10, 2, 3)), 0.1 * np.arange(1, 11)
    for one in (Subsample(3), Subsample(0.3), Subsample(300 * u.ms)):
        np.testing.assert_array_equal(one(x, 0.1), x[[2, 5, 8]])
        np.testing.assert_allclose(one.times(ts, 0.1), [0.3, 0.6, 0.9])
        assert abs(one.out_step(0.1) - 0.3) < 1e-12


def test_global_average_is_the_mean_over_regions():
    x = RNG.normal(size=(7, 2, 4))
    np.testing.assert_allclose(GlobalAverage()(x), x.mean(-1, keepdims=True), rtol=1e-12)
    weights = np.array([1.0, 2.0, 0.0, 5.0])
    wanted = (x @ weights / 8.0)[..., None]
    np.testing.assert_allclose(GlobalAverage(weights)(x), wanted, rtol=1e-12, atol=1e-15)
    found = GlobalAverage(weights * 1e3 * u.mmeter**3)(x * u.mV)
    np.testing.assert_allclose(found.to_decimal(u.volt), 1e-3 * wanted, rtol=1e-12, atol=1e-15)


def test_filters_follow_observers_and_each_other():
    simulator = Simulator(HopfStep(3, a=0.3, w=[0.05, 0.06, 0.5], init_x=[0.1, 0.2, 0.3]), dt=1.0 * u.ms)
    band, every = BandPass(5 * u.Hz, 15 * u.Hz), Subsample(10 * u.ms)
    chain = Sample("x", every=2 * u.ms) >> band >> every >> GlobalAverage([3.0, 1.0, 1.0])
    inside = TemporalAverage("x", every=2 * u.ms) >> GlobalAverage() >> band
    found = simulator.run(
        2.0 * u.second,
        monitors=["x"],
        observe=[chain, inside, Sample("x", name="all") >> every],
        progress=False,
    )
    x = np.asarray(found["x"])
    wanted = every(band(x[1::2], 2 * u.ms), 2 * u.ms) @ np.array([0.6, 0.2, 0.2])
    np.testing.assert_allclose(found["sample"], wanted[:, None], atol=1e-13)
    mean = x.reshape(1000, 2, 3).mean(axis=(1, 2))[:, None]
    np.testing.assert_allclose(found["average"], band(mean, 2 * u.ms), atol=1e-13)
    np.testing.assert_array_equal(found["all"], x[9::10])
    # what is left of 10 Hz is far larger than what is left of 80 Hz
    alone = np.asarray(band(x, 1 * u.ms))[300:-300]
    assert alone[:, 0].std() > 100 * alone[:, 2].std()


def test_equal_settings_share_a_program_and_others_do_not():
    assert BandPass(0.01, 0.1) == BandPass(0.01 * u.Hz, 0.1 / u.second)
    assert hash(BandPass(1.0, 2.0, order=2)) == hash(BandPass(1.0, 2.0, order=2))
    assert BandPass(1.0, 2.0, order=2) != BandPass(1.0, 2.0, order=3)
    assert BandPass(1.0, 2.0) != BandPass(1.0, 2.0, "fir") and Subsample(2) != Subsample(3)
    assert not set(vars(GlobalAverage([1.0, 2.0]).static())) & {"weights"}


def test_what_cannot_be_done_is_said():
    x = np.zeros((100, 2))
    with pytest.raises(
        ValueError, match=r"high is 60 Hz, but samples 0.01 s apart hold frequencies below 50 Hz"
    ):
        BandPass(1.0, 60.0)(x, 0.01)
    with pytest.raises(ValueError, match=r"low is 60 Hz, but samples 0.01 s apart"):
        BandPass(60.0)(x, 0.01)
    with pytest.raises(ValueError, match=r"the signal lasts 1 s, less than one period of 0.5 Hz"):
        BandPass(0.5, 10.0)(x, 0.01)
    with pytest.raises(
        ValueError, match=r"the filter of BandPass is 331 samples long, but the signal has 100"
    ):
        BandPass(2.0, 10.0, "fir", transition=1.0)(x, 0.01)
    with pytest.raises(
        ValueError, match=r"an edge 3 Hz wide around low = 1 Hz reaches below 0; at most 2 Hz"
    ):
        BandPass(1.0, 10.0, transition=3.0)(x, 0.01)
    with pytest.raises(ValueError, match=r"an edge 15 Hz wide around high = 45 Hz reaches above 50 Hz"):
        BandPass(1.0, 45.0, transition=(1.0, 15.0))(x, 0.01)
    with pytest.raises(UnitError, match="low of BandPass is given in s, but it is needed in Hz"):
        BandPass(1.0 * u.second, 2.0)
    for wrong, text in (
        ({}, "neither low nor high"),
        ({"low": 2.0, "high": 1.0}, "low must be the smaller one"),
        ({"low": 0.0, "high": 1.0}, "low is 0 Hz; it must be positive"),
        ({"low": 1.0, "method": "iir"}, "method is 'iir'"),
        ({"low": 1.0, "order": 2, "transition": 1.0}, "order and transition both"),
        ({"low": 1.0, "method": "fir", "order": 3}, "order is 3"),
        ({"low": 1.0, "transition": 0.0}, "transition is 0 Hz"),
    ):
        with pytest.raises(ValueError, match=text):
            BandPass(**wrong)
    with pytest.raises(ValueError, match="BandPass acts on time; give dt"):
        BandPass(1.0, 2.0)(x)
    with pytest.raises(ValueError, match=r"every of Subsample is 0.015 s, which is not a multiple of 0.01 s"):
        Subsample(0.015)(x, 0.01)
    with pytest.raises(ValueError, match="the signal has 100 samples, but one in 200 is wanted"):
        Subsample(200)(x, 0.01)
    with pytest.raises(ValueError, match="every is 0"):
        Subsample(0)
    with pytest.raises(ValueError, match="GlobalAverage has 3 weights for 2 regions"):
        GlobalAverage(np.ones(3))(x)
    with pytest.raises(ValueError, match="weights of GlobalAverage must be one number for each region"):
        GlobalAverage([-1.0, 2.0])


def test_mirror_image_leaves_a_series_that_nothing_is_taken_from():
    x = RNG.normal(size=(17, 2))
    np.testing.assert_allclose(mirrored(jnp.asarray(x), np.ones(18)), x, atol=1e-14)
