"""Kernels against scipy, nilearn and published figures; convolution against numpy; gain, units and derivatives."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from brainloom.core.units import UnitError
from brainloom.observe import TemporalAverage, responses
from brainloom.observe.hrf import (
    CanonicalHRFKernel,
    DoubleExponentialHRFKernel,
    FirstOrderVolterraHRFKernel,
    GammaHRFKernel,
    HRFKernel,
    MixtureOfGammasHRFKernel,
)
from brainloom.observe.hrf_bold import HRFBold, convolve
from brainloom.simulate import Simulator

KERNELS = (
    FirstOrderVolterraHRFKernel,
    GammaHRFKernel,
    DoubleExponentialHRFKernel,
    MixtureOfGammasHRFKernel,
    CanonicalHRFKernel,
)
T = np.arange(0.0, 30.0, 0.001)
RNG = np.random.default_rng(3)


def features(h):
    """Time of the peak, full width at half maximum, lowest value after the peak over the peak, and its time."""
    top = int(h.argmax())
    above, low = T[h > 0.5 * h[top]], top + int(h[top:].argmin())
    return T[top], above[-1] - above[0], h[low] / h[top], T[low]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (CanonicalHRFKernel(), (5.00, 5.26, -0.089, 15.7)),
        (CanonicalHRFKernel("glover"), (5.03, 4.61, -0.177, 12.5)),
        (CanonicalHRFKernel("glover", ratio=0.48), (5.01, 4.49, -0.26, 12.3)),
        (MixtureOfGammasHRFKernel(), (4.95, 4.87, -0.213, 13.2)),
        (GammaHRFKernel(), (2.16, 3.67, 0.0, 29.999)),
        (FirstOrderVolterraHRFKernel(), (0.80, 1.36, -0.26, 3.0)),
    ],
)
def test_peak_width_and_undershoot_are_those_of_the_literature(kernel, expected):
    found = features(np.asarray(kernel(T * u.second)))
    # about half of the last digit given
    assert (np.abs(np.subtract(found, expected)) <= (0.006, 0.006, 0.006, 0.06)).all(), found


def test_canonical_kernels_are_those_of_nilearn():
    from nilearn.glm.first_level import glover_hrf, spm_hrf

    for made, ours in (
        (spm_hrf, CanonicalHRFKernel(ratio=0.167)),
        (glover_hrf, CanonicalHRFKernel("glover", ratio=0.48)),
    ):
        step = 0.02
        theirs = made(1.0, oversampling=50)
        # nilearn stretches its grid by one part in its length, shifts it by one step, and makes the sum 1
        t = np.linspace(0.0, 32.0, len(theirs)) - step
        found = np.asarray(ours(t * u.second)) * step
        np.testing.assert_allclose(found / found.sum(), theirs, atol=1e-10)
        np.testing.assert_allclose(
            found.sum(), 1.0, rtol=1.5e-3
        )  # the stretched grid, and what comes after 32 s


def test_gamma_functions_are_those_of_scipy():
    t = T[1:]
    density = stats.gamma.pdf(t, 3.7, scale=1.3)
    np.testing.assert_allclose(responses.gamma_density(t, 3.7, 1.3), density, rtol=1e-12)
    found = np.asarray(GammaHRFKernel(tau=1.3, n=3.7, a=2.0)(t * u.second))
    np.testing.assert_allclose(found, 2.0 * density / stats.gamma.pdf(2.7 * 1.3, 3.7, scale=1.3), rtol=1e-12)
    mixed = MixtureOfGammasHRFKernel(a_1=5.5, l=0.8)(t * u.second)
    wanted = stats.gamma.pdf(0.8 * t, 5.5) - 0.4 * stats.gamma.pdf(0.8 * t, 13.0)
    np.testing.assert_allclose(mixed, wanted, rtol=1e-10, atol=1e-15)  # of values near 0.1


@pytest.mark.parametrize(("tau_s", "tau_f"), [(0.8, 0.4), (1.54, 2.44), (0.3, 0.36), (0.3, 0.9), (0.1, 2.0)])
def test_volterra_kernel_solves_the_oscillator_on_both_sides_of_critical_damping(tau_s, tau_f):
    t = np.linspace(0.0, 20.0, 41)
    solved = integrate.solve_ivp(
        lambda _, y: (y[1], -y[1] / tau_s - y[0] / tau_f),
        (0.0, 20.0),
        (0.0, 1.0),
        t_eval=t,
        rtol=1e-11,
        atol=1e-13,
    )
    found = responses.first_order_volterra(t, tau_s, tau_f, 1.0)
    np.testing.assert_allclose(found, solved.y[0], atol=1e-9)  # the tolerance of the solver, times some


def test_volterra_kernel_and_its_slope_pass_critical_damping_smoothly():
    critical = 4.0 * 0.3**2
    tau_f = critical * (1.0 + np.linspace(-0.05, 0.05, 401))
    values, slopes = jax.vmap(jax.value_and_grad(lambda f: responses.first_order_volterra(2.0, 0.3, f, 1.0)))(
        tau_f
    )
    # the second difference of a smooth function on a grid of 2.5e-4 of its scale
    assert np.abs(np.diff(values, 2)).max() < 1e-6 * np.abs(values).max()
    assert np.abs(np.diff(slopes, 2)).max() < 1e-6 * np.abs(slopes).max()


def test_double_exponential_has_the_height_that_is_asked_for():
    kernel = DoubleExponentialHRFKernel(a=np.array([0.1, 0.7]), f_1=np.array([0.03, 0.05]), duration=40.0)
    h = np.asarray(kernel(T * u.second))
    np.testing.assert_allclose(h.max(axis=0), [0.1, 0.7], rtol=1e-6)  # a grid of 1 ms misses the peak by less
    wave = np.exp(-T / 7.22) * np.sin(2 * np.pi * 0.03 * T) - np.exp(-T / 7.4) * np.sin(2 * np.pi * 0.12 * T)
    np.testing.assert_allclose(h[:, 0], 0.1 * wave / wave.max(), atol=1e-7)


@pytest.mark.parametrize("kind", KERNELS)
def test_derivatives_in_every_parameter_and_in_time(kind):
    kernel, t = kind(), jnp.asarray([0.0, 0.3, 1.0, 4.0, 9.0, 17.0])
    p, at = kernel.values(), kernel.duration
    value_at = jax.jit(lambda p, t: kind.formula(p, t, at))
    slopes = jax.jit(jax.jacrev(value_at))(p, t)
    for name, value in p.items():
        step = 1e-6 * max(1.0, float(value))
        high, low = (value_at(p | {name: value + by}, t) for by in (step, -step))
        # central differences: rounding 1e-16 / step of values of order 1, and step^2
        np.testing.assert_allclose(
            slopes[name], (high - low) / (2 * step), atol=1e-8, rtol=1e-6, err_msg=name
        )
        assert np.isfinite(slopes[name]).all()
    in_time = jax.jit(jax.vmap(jax.grad(value_at, argnums=1), (None, 0)))(p, t)
    high, low = (value_at(p, t + by) for by in (1e-6, -1e-6))
    assert np.isfinite(in_time).all()
    np.testing.assert_allclose(in_time[1:], ((high - low) / 2e-6)[1:], atol=1e-8)


@pytest.mark.parametrize("kind", KERNELS)
def test_values_and_derivatives_are_finite_in_single_precision_over_the_fitting_box(kind):
    box = {p.name: p.bounds for p in kind.PARAMETERS}
    corners = {k: RNG.uniform(*v, 300).astype(np.float32) for k, v in box.items()}
    for name, (low, high) in box.items():
        corners[name][:100] = RNG.choice(np.array([low, high], np.float32), 100)
    t = jnp.asarray(np.array([0.0, 1e-3, 0.5, 5.0, 20.0, 32.0], np.float32))

    def one(p, s):
        return kind.formula(p, s, kind.DURATION)

    each = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(one, argnums=(0, 1)), (None, 0)), (0, None)))
    for part in jax.tree.leaves(each(jax.tree.map(jnp.asarray, corners), t)):
        assert part.dtype == jnp.float32 and np.isfinite(part).all()


def test_times_are_ms_or_any_unit_and_parameters_check_theirs():
    kernel = GammaHRFKernel(tau=1080 * u.ms)
    same = [
        kernel(np.array([2160.0])),
        kernel(np.array([2.16]) * u.second),
        kernel(np.array([0.036]) * u.minute),
    ]
    np.testing.assert_allclose(same, 0.1, rtol=1e-12)
    assert GammaHRFKernel(tau=np.array([1.0, 1.2]))(np.arange(5.0)).shape == (5, 2)
    assert (np.asarray(kernel(np.array([-1000.0, 0.0]))) == 0).all()
    with pytest.raises(UnitError, match="tau of GammaHRFKernel is given in Hz, but it is needed in s"):
        GammaHRFKernel(tau=1.0 * u.Hz)
    with pytest.raises(UnitError):
        kernel(np.arange(3.0) * u.mV)
    with pytest.raises(TypeError, match="GammaHRFKernel has no parameter sigma; it has tau, n, a"):
        GammaHRFKernel(sigma=1.0)
    with pytest.raises(ValueError, match="duration of GammaHRFKernel is -1"):
        GammaHRFKernel(duration=-1.0)
    with pytest.raises(ValueError, match="variant is 'afni'"):
        CanonicalHRFKernel("afni")


# --- HRFBold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KERNELS)
def test_the_integral_of_every_kernel_does_not_depend_on_the_internal_step(kind):
    kernel = kind(duration=30.0)
    p = {f"kernel.{k}": v for k, v in kernel.values().items()}
    bold = HRFBold(kernel=kernel)
    integral = float(integrate.simpson(np.asarray(kernel(np.arange(30_001.0))), dx=0.001))
    response = jax.jit(lambda step: bold.response(p, step).sum(), static_argnums=0)
    # Gauss-Legendre with two points: step^4 / 4320 of the fourth derivative
    np.testing.assert_allclose([response(s) for s in (0.004, 0.01, 0.05)], integral, rtol=2e-5)


def test_gain_does_not_depend_on_the_internal_step():
    dt, kernel = 0.001, FirstOrderVolterraHRFKernel()
    t = np.arange(20_000)
    burst, slow = 0.1 * (t < 1000), 0.05 * (1 + np.sin(2 * np.pi * 0.1 * t * dt))
    z = np.stack([np.full(len(t), 0.1), burst, slow], axis=1)
    found = {}
    for step in (4, 10, 20, 50):
        bold = HRFBold(period=1.0, downsample_period=step * u.ms, kernel=kernel)
        assert bold.steps(dt) == (1000, step)
        found[step] = np.asarray(jax.jit(lambda z, bold=bold: bold(z, dt))(z))
        # the integral to infinity of the equation: tau_f / 3
        np.testing.assert_allclose(found[step][-1, 0], 5.6 * 0.02 * 0.1 * 0.4 / 3.0, rtol=2e-5)
    # blocks of a burst that they fit, and of slow activity: (step / 2 s)^2 / 24 at 50 ms
    scale = np.abs(found[4]).max(axis=0)
    for step in (10, 20, 50):
        assert (np.abs(found[step] - found[4]).max(axis=0) < 2e-4 * scale).all()


def test_bold_is_the_convolution_of_numpy_and_rests_at_zero():
    dt, width = 0.002, 5
    x = RNG.normal(size=(4000, 2, 3))
    kernel = GammaHRFKernel(tau=np.array([1.0, 0.8, 1.2]), duration=6.0)
    options = {"period": 1.0, "downsample_period": 0.01, "kernel": kernel}
    bold = HRFBold(**options, bold_gain=2.0, bold_baseline=0.3)
    found = np.asarray(bold(x, dt))
    assert found.shape == (8, 2, 3)
    blocks = 2.0 * (x.reshape(-1, width, 2, 3).mean(axis=1) - 0.3)
    # the average of the kernel over a block by Simpson's rule on 8 parts: far finer than the two points inside
    fine = (np.arange(600)[:, None] + np.linspace(0, 1, 9)) * 0.01
    h = 0.01 * integrate.simpson(np.asarray(kernel(fine.ravel() * u.second)).reshape(600, 9, 3), axis=1) / 8.0
    full = np.asarray(HRFBold(**options, bold_gain=2.0, bold_baseline=0.3, convolution_mode="full")(x, dt))
    for b in range(2):
        for r in range(3):
            wanted = 5.6 * 0.02 * np.convolve(blocks[:, b, r], h[:, r])
            np.testing.assert_allclose(found[:, b, r], wanted[:800][99::100], atol=1e-8)
            np.testing.assert_allclose(full[:, b, r], wanted[99::100], atol=1e-8)
    direct = HRFBold(**options, bold_gain=2.0, bold_baseline=0.3, method="direct")(x, dt)
    np.testing.assert_allclose(found, direct, atol=1e-14)
    assert (np.abs(np.asarray(bold(np.full((2000, 3), 0.3), dt))) < 1e-15).all()
    ts = (np.arange(4000) + 1) * dt
    np.testing.assert_allclose(bold.times(ts, dt), np.arange(1, 9))
    long = HRFBold(**options, convolution_mode="full")
    np.testing.assert_allclose(long.times(ts, dt), np.arange(1, 14))
    assert long(x, dt).shape[0] == 13
    one = np.asarray(
        HRFBold(**options)(
            x[:, 0],
            dt,
        )
    )
    np.testing.assert_allclose(
        one, found[:, 0] / 2 + 0.3 * (HRFBold(**options)(np.ones((4000, 3)), dt)), atol=1e-14
    )


def test_history_is_what_came_before():
    dt, x = 0.01, RNG.normal(size=(6000, 2))
    bold = HRFBold(period=1.0, downsample_period=0.05, kernel=GammaHRFKernel(duration=10.0))
    whole = np.asarray(bold(x, dt))
    blocks = x[:3000].reshape(-1, 5, 2).mean(axis=1)
    late = HRFBold(
        period=1.0, downsample_period=0.05, kernel=GammaHRFKernel(duration=10.0), history=blocks[-200:]
    )
    np.testing.assert_allclose(late(x[3000:], dt), whole[30:], atol=1e-14)
    np.testing.assert_allclose(late(np.stack([x[3000:]] * 2, 1), dt)[:, 1], whole[30:], atol=1e-14)


def test_convention_of_tvb_is_the_published_sum_at_4_ms():
    dt, x = 0.004, 0.03 * RNG.uniform(size=(2500, 2))
    kernel = FirstOrderVolterraHRFKernel()
    found = HRFBold(period=1.0, convention="tvb")(x, dt)
    h = np.asarray(kernel((np.arange(5000) + 0.5) * 4 * u.ms))  # TVB takes the left end of each block
    wanted = [5.6 * 0.02 * (np.convolve(x[:, r], h)[249:2500:250] - 1.0) for r in range(2)]
    # the value in the middle of a block of 4 ms against the average: 0.004^2 / 24 of a second derivative near 7
    np.testing.assert_allclose(found, np.transpose(wanted), rtol=1e-4)
    other = HRFBold(period=1.0, convention="tvb", downsample_period=0.02)(x, dt)
    assert np.abs(np.asarray(other) - found).max() < 0.05 * np.ptp(np.asarray(found)), (
        "the gain is that of 4 ms"
    )


def test_gradients_reach_the_signal_and_every_parameter():
    dt, x = 0.05, jnp.asarray(RNG.normal(size=(1200, 2)))
    bold = HRFBold(
        period=2.0, downsample_period=0.1, kernel=CanonicalHRFKernel(duration=20.0), bold_gain=[1.0, 2.0]
    )
    p, weight = bold.values(u.UNITLESS, "s"), jnp.asarray(RNG.normal(size=(30, 2)))

    @jax.jit
    def score(p, x):
        return jnp.sum(weight * bold.series(p, x, dt) ** 2)

    slopes, in_x = jax.jit(jax.grad(score, argnums=(0, 1)))(p, x)
    toward = jnp.asarray(RNG.normal(size=x.shape))
    difference = (score(p, x + 1e-5 * toward) - score(p, x - 1e-5 * toward)) / 2e-5
    np.testing.assert_allclose(jnp.sum(in_x * toward), difference, rtol=1e-7)
    for name, value in p.items():
        by = 1e-5 * jnp.ones_like(value)
        high, low = (score(p | {name: value + sign * by}, x) for sign in (1, -1))
        np.testing.assert_allclose(
            jnp.sum(slopes[name]), (high - low) / 2e-5, rtol=1e-5, atol=1e-9, err_msg=name
        )


def test_parameters_are_found_for_fitting_and_reach_the_result():
    shape = brainstate.nn.Param(jnp.asarray([2.0, 4.0]), fit=True)
    bold = HRFBold(
        period=1.0, kernel=GammaHRFKernel(n=shape), k_1=brainstate.nn.Param(jnp.asarray(5.6), fit=True)
    )
    assert len(bold.states(brainstate.ParamState)) == 2
    x = RNG.normal(size=(5000, 2))
    fixed = HRFBold(period=1.0, kernel=GammaHRFKernel(n=np.array([2.0, 4.0])))
    np.testing.assert_allclose(bold(x, 0.004), fixed(x, 0.004), rtol=1e-14)
    # programs are kept by what is static, never by values
    assert bold == fixed and hash(bold) == hash(fixed)
    assert bold != HRFBold(period=1.0, kernel=GammaHRFKernel(duration=10.0)) and bold != HRFBold(period=1.0)
    assert not set(vars(bold.static())) & {"k_1", "V_0", "history", "bold_gain"}
    assert not set(vars(bold.static().kernel)) & {"n", "tau", "a"}


def test_bold_follows_an_observer_of_a_simulation():
    simulator = Simulator(HopfStep(2, a=0.2, w=0.02, init_x=0.1), dt=1.0 * u.ms)
    bold = HRFBold(tr=0.5 * u.second, downsample_period=5 * u.ms)
    chain = TemporalAverage("x", every=5 * u.ms) >> bold
    found = simulator.run(3.0 * u.second, monitors=["x"], observe=[chain], progress=False)
    assert found["average"].shape == (6, 2)
    np.testing.assert_allclose(found["average"], bold(found["x"], 1.0 * u.ms), atol=1e-14)


def test_single_precision_is_close():
    x = RNG.normal(size=(75_000, 2))
    bold = HRFBold(period=0.72)
    double = np.asarray(bold(x, 0.004))
    p = {k: v.astype(jnp.float32) for k, v in bold.values(u.UNITLESS, "s").items()}
    single = bold.series(p, jnp.asarray(x, jnp.float32), 0.004)
    assert single.dtype == jnp.float32
    # rounding of sums of 8000 products by FFT, relative to the largest value
    assert np.abs(single - double).max() < 3e-6 * np.abs(double).max()


def test_what_cannot_be_done_is_said():
    x = np.zeros((100, 2))
    with pytest.raises(ValueError, match=r"period of HRFBold is 1.0 s, which is not a multiple of 0.003 s"):
        HRFBold(period=1.0)(x, 0.003)
    with pytest.raises(ValueError, match=r"the signal lasts 0.4 s, less than the period of HRFBold, 1 s"):
        HRFBold(period=1.0)(x, 0.004)
    with pytest.raises(ValueError, match="'same' would answer before its input"):
        HRFBold(convolution_mode="same")
    with pytest.raises(ValueError, match="method is 'fast'; it must be one of 'fft', 'direct'"):
        HRFBold(method="fast")
    with pytest.raises(ValueError, match="period and tr are the same time"):
        HRFBold(period=1.0, tr=2.0)
    with pytest.raises(ValueError, match=r"downsample_period is 2.0 s"):
        HRFBold(period=1.0, downsample_period=2.0)
    with pytest.raises(ValueError, match=r"TVB's convention takes the signal itself"):
        HRFBold(convention="tvb", bold_gain=2.0)
    with pytest.raises(TypeError, match="kernel is a float; give an HRFKernel"):
        HRFBold(kernel=3.0)
    with pytest.raises(
        UnitError, match="bold_baseline of HRFBold is given in mV; for this signal it must be in Hz"
    ):
        HRFBold(bold_baseline=1.0 * u.mV)(np.zeros((2000, 1)) * u.Hz, 0.001)
    with pytest.raises(TypeError, match="a kernel must define formula"):
        HRFKernel()(np.arange(3.0))
    # a gain in the unit that closes the equation is taken as it is
    volts = HRFBold(bold_gain=2.0 / u.mV / u.second, bold_baseline=0.001 * u.volt)
    found = volts(np.full((2000, 1), 1.5) * u.mV, 0.001)
    np.testing.assert_allclose(found, HRFBold()(np.full((2000, 1), 1.0), 0.001), rtol=1e-12)


def test_convolution_of_kernels_by_region():
    x, h = RNG.normal(size=(50, 4, 3)), RNG.normal(size=(7, 3))
    for method in ("fft", "direct"):
        found = convolve(jnp.asarray(x), jnp.asarray(h), method=method)
        np.testing.assert_allclose(found[:, 2, 1], np.convolve(x[:, 2, 1], h[:, 1]), atol=1e-13)
