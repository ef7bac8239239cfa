"""Every model stays finite for a minute at its recommended step and noise; one that leaves its basin says so."""

from recommended import MODELS, minute, noise_amplitudes, plain, simulate, states

# isort: split
import jax
import numpy as np
import pytest

from brainloom.models import CoombesByrneStep, EpileptorStep, HORNStep, MontbrioPazoRoxinStep
from brainloom.noise import OUProcess
from brainloom.simulate import DivergenceError, Simulator

REGIONS = 4
# Rarely where the run is long: little to keep, and one compiled program for every length.
EVERY = {name: 1000 if minute(model) >= 60_000 else 100 for name, model in MODELS.items()}


def noisy(name, **changed):
    return MODELS[name](REGIONS, **noise_amplitudes(MODELS[name]) | changed)


def check_finite(name, bits, steps):
    model = MODELS[name]
    with jax.enable_x64(bits == 64):
        result = simulate(noisy(name), steps, EVERY[name])
    samples = states(result, model)
    assert samples.shape == (steps // EVERY[name], REGIONS, len(model.STATES))
    assert samples.dtype == np.dtype(f"float{bits}") and not result["diverged"]
    assert np.isfinite(samples).all()
    # Noise reaches every state of every region, each its own.
    assert samples.std(axis=0).min() > 0.0 and np.ptp(samples, axis=1).max(axis=0).min() > 0.0
    for index, state in enumerate(model.STATES):
        if name == "KuramotoStep":  # a phase is not wrapped
            continue
        shown = plain(result[state.name])
        low, high = np.multiply(state.span, 1000.0 if state.shown == "Hz" else 1.0)
        # The span is what the model visits without noise; the orbit of Coombes-Byrne doubles with it. Five
        # half-widths from the middle are far outside any orbit.
        assert np.abs(shown - 0.5 * (low + high)).max() < 2.5 * (high - low), (state.name, index)


@pytest.mark.filterwarnings("error:dt:UserWarning")
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", MODELS)
def test_a_minute_is_finite(name, bits):
    """60 s, 10^5 steps of models in units of time of their own, 10^4 of a map; dt raises no warning."""
    check_finite(name, bits, minute(MODELS[name]))


# Fields that grow at most linearly where a state is large, or nearly so: no step overshoots.
SATURATING = {name for name in MODELS if name.startswith("WilsonCowan")} | {
    "LinearStep",
    "ThresholdLinearStep",
    "KuramotoStep",
    "JansenRitStep",
    "BilinearDCMStep",
    "HORNStep",
}
# Quadratic only in products of gating variables, whose rates are slow.
SATURATING |= {"WongWangStep", "ReducedWongWangStep", "WongWangExcInhStep"}


@pytest.mark.parametrize("name", MODELS)
def test_a_run_from_far_outside_is_finite_or_a_reported_divergence(name):
    """
    Starts of 1e4, 1e12 and 1e30 times the span: what overflows raises, and what does not has finite samples.

    In single precision; the programs are those of the minutes above, so nothing is compiled here.
    """
    model = MODELS[name]
    steps = min(minute(model), 100_000)
    survived = []
    with jax.enable_x64(False):
        for size in (1e4, 1e12, 1e30):
            start = {s.name: [size * s.span[1] * (-1) ** k for k in range(REGIONS)] for s in model.STATES}
            try:
                result = simulate(noisy(name), steps, EVERY[name], initial=start, check=False)
            except DivergenceError as error:
                assert str(error).startswith(f"the simulation of {name} diverged before ")
            else:
                survived.append(size)
                assert np.isfinite(states(result, model)).all()
    assert (survived[:1] == [1e4]) if name in SATURATING else not survived


def test_noise_beyond_the_basin_raises_and_says_what_to_change():
    """Ten times the noise of the registry makes rates negative, from where they run to infinity."""
    noise = {key: 10.0 * value for key, value in noise_amplitudes(CoombesByrneStep).items()}
    with pytest.raises(
        DivergenceError,
        match=r"simulation of CoombesByrneStep diverged before 1000 ms; use a smaller dt, less noise or weaker",
    ):
        simulate(CoombesByrneStep(REGIONS, **noise), 10_000, 1000)


def test_realisations_that_leave_their_basin_are_flagged_with_a_warning():
    """Realisations 1 and 3 start far below the resting potential, where the step of 0.05 cannot follow x1^3."""
    start = {"x1": np.tile([[-1.5], [-150.0], [-1.6], [-1500.0]], REGIONS)}
    with pytest.warns(
        UserWarning,
        match=r"2 of 4 simulations of EpileptorStep diverged before 100 ms \(realisations 1, 3\); use a smaller dt",
    ):
        result = simulate(noisy("EpileptorStep"), 2000, 100, batch_size=4, initial=start, check=False)
    samples = states(result, EpileptorStep)
    assert np.asarray(result["diverged"]).tolist() == [False, True, False, True]
    assert np.isfinite(samples).all(axis=(0, 2, 3)).tolist() == [True, False, True, False]
    # The others are the numbers of a batch in which nothing happens.
    quiet = {"x1": np.tile([[-1.5], [-1.5], [-1.6], [-1.6]], REGIONS)}
    alone = simulate(noisy("EpileptorStep"), 2000, 100, batch_size=4, initial=quiet, check=False)
    assert not np.asarray(alone["diverged"]).any()
    np.testing.assert_array_equal(samples[:, [0, 2]], states(alone, EpileptorStep)[:, [0, 2]])


def test_one_region_with_a_negative_rate_ends_the_run():
    """``r < 0`` means nothing; with ``v > 0`` r runs to minus infinity, whatever the other regions do."""
    rest = MontbrioPazoRoxinStep(REGIONS)
    assert not Simulator(rest, 0.1, method="rk4").run(100.0)["diverged"]
    node = MontbrioPazoRoxinStep(
        REGIONS, init_r=[0.002, 0.002, -0.001, 0.002], init_v=[-2.0, -2.0, 5.0, -2.0]
    )
    with pytest.raises(DivergenceError, match="MontbrioPazoRoxinStep diverged before 100 ms"):
        Simulator(node, 0.1, method="rk4").run(100.0, check=False)


@pytest.mark.parametrize(
    "noise, expected",
    [
        # One step from rest, h = 1: x <- x + y, y <- y + alpha tanh(input).
        ({"noise_x": 0.1}, {"x": 0.1, "y": 0.0}),
        ({"noise_y": 0.2}, {"x": 0.0, "y": 0.2}),
        ({"noise_x": OUProcess(sigma=0.3, tau=5.0)}, {"x": 0.3, "y": 0.0}),
        ({"noise_input": OUProcess(sigma=0.01, tau=5.0)}, {"x": 4e-4, "y": 4e-4}),
    ],
)
def test_noise_of_a_map_is_added_to_its_new_state(noise, expected):
    result = Simulator(HORNStep(40_000, **noise), 1.0).run(1, monitors=["x", "y"], key=jax.random.key(3))
    for name, size in expected.items():
        # The standard error of a standard deviation of 40000 draws is 0.35 %; tanh is linear to 1e-4.
        assert np.asarray(result[name]).std() == pytest.approx(size, rel=0.02)
