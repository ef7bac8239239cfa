"""
Gradients of every objective against central finite differences in float64, and what has no variance.

Steps are 1e-6 of signals of order 1 along random directions: the differences are off by about 1e-12 of the third
derivative and by 1e-10 of rounding, so 1e-6 of the slope is loose for a right gradient and tight for a wrong one.

Then every objective in every kind of parameter through 2,400 steps of a network: see `Solve`. There differences are
``(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h`` along one random direction of each kind, h of 2e-4 in unconstrained
space, where values are of order 1: the formula is off by h^4 of the fifth derivative, about 1e-13, and by the rounding
of f over h, about 1e-11 of f. Again 1e-6 of the gradient is loose and tight. BOLD has a billionth of its power where
spectra and phases of these objectives look: there rounding is 2e-5 of the gradient. Its cross-spectra at five
frequencies are singular but for rounding and are left out.
"""

from functools import cache
from importlib import import_module
from pathlib import Path

from objective_cases import CASES, DT, N_REGION, N_TIME, QUICK, X, Y, evaluate
from solve_cases import KINDS, OBSERVER_KINDS, SAMPLE, solve

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import analysis
from brainloom import objectives as o

STEP, RTOL, N_DIRECTIONS = 1e-6, 1e-6, 4


def test_every_objective_is_here():
    """And those that combine others: `on` chooses what one of them gets."""
    functions = {name for name in o.__all__ if name[0].islower()}
    assert functions - {"on"} == {name.split()[0] for name in CASES}


def whole(x):
    return np.full_like(x, 0.3)


def one_region(x):
    return np.where(np.arange(x.shape[1]) == 1, 0.1, x)


def silent_region(x):
    return np.where(np.arange(x.shape[1]) == 1, 0.0, x)


def twins(x):
    return np.where(np.arange(x.shape[1]) == 1, x[:, :1], x)


def ramp(x):
    return np.where(np.arange(x.shape[1]) == 1, np.linspace(0, 1, len(x))[:, None], x)


def not_a_number(x):
    spoilt = x.copy()
    spoilt[150, 2] = np.nan
    return spoilt


def infinite(x):
    spoilt = x.copy()
    spoilt[150, 2] = np.inf
    return spoilt


def equal(_):
    return Y


CONSTANT = (whole, one_region, silent_region, twins, ramp)
SPOILT = (*CONSTANT, not_a_number, infinite, equal)
DIRECTIONS = np.random.default_rng(2).normal(size=(N_DIRECTIONS, N_TIME, N_REGION))


@cache
def results(name):
    """At the start, around it, at spoilt predictions, at spoilt targets: values and gradients."""
    predictions = np.concatenate(
        [
            X[None],
            X + STEP * DIRECTIONS,
            X - STEP * DIRECTIONS,
            [spoil(X) for spoil in SPOILT],
            [X] * len(SPOILT),
        ]
    )
    targets = np.concatenate([[Y] * (len(predictions) - len(SPOILT)), [spoil(Y) for spoil in SPOILT]])
    return evaluate(name, predictions, targets)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_differences_under_jit_and_vmap(name):
    values, gradients = results(name)
    above, below = values[1 : 1 + N_DIRECTIONS], values[1 + N_DIRECTIONS : 1 + 2 * N_DIRECTIONS]
    slopes = np.sum(gradients[0] * DIRECTIONS, axis=(1, 2))
    scale = max(np.abs(slopes).max(), 1e-6 * abs(values[0]))
    np.testing.assert_allclose(slopes, (above - below) / (2 * STEP), rtol=0, atol=RTOL * scale)
    assert np.abs(slopes).max() > 0.0


# What makes a covariance singular gives no finite likelihood; it is an error, tested below.
SINGULAR = ("wishart", "cross_spectra", "whittle", "wishart of correlations", "fc_corr of a matrix")
REGULAR = [name for name in CASES if name not in SINGULAR]
SIGNALS = [name for name in REGULAR if CASES[name].takes_signals]


def at(name, spoil, of_target=False):
    values, gradients = results(name)
    k = SPOILT.index(spoil) - (1 if of_target else 2) * len(SPOILT)
    return values[k], gradients[k]


@pytest.mark.parametrize("spoil", CONSTANT)
@pytest.mark.parametrize("name", REGULAR)
def test_what_does_not_vary_has_a_finite_value_and_gradient(name, spoil):
    for of_target in (False, True) if CASES[name].takes_signals else (False,):
        found, gradient = at(name, spoil, of_target)
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()
        # Rounding noise of a constant is not taken for a signal, which would have a gradient of 1e14. The spectrum of
        # a straight line spans 20 decades by itself.
        steep = name.startswith("psd_log") and spoil is ramp and not of_target
        assert np.abs(gradient).max() < (1e11 if steep else 1e6)


@pytest.mark.parametrize("name", SIGNALS)
def test_equal_signals_have_a_finite_gradient(name):
    found, gradient = at(name, equal)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_samples_that_are_no_numbers(name):
    case = CASES[name]
    for spoil in (not_a_number, infinite):
        # Traced, a result that is not finite stays so, and no optimiser takes it for a good one.
        assert not np.isfinite(at(name, spoil)[0])
        assert not case.takes_signals or not np.isfinite(at(name, spoil, of_target=True)[0])
        with pytest.raises(ValueError, match=r"not finite|is nan"):
            case(jnp.asarray(spoil(X)))
        if case.takes_signals:
            wrong = r"the target of .* has 1 values that are not finite, .* \(150, 2\)"
            with pytest.raises(ValueError, match=wrong):
                jax.eval_shape(lambda x, spoil=spoil: case(x, spoil(Y)), X)


# What one region, or two samples, leave too little of. Everything else must be finite.
TOO_FEW = {
    "one region": {"fc_corr", "fc_rmse", "lagged_fc", "fcd", "fcd_ks", "fcd_wasserstein", "envelope_fc"}
    | {"variance", "wishart"},
    "two samples": {
        "lagged_fc",
        "fcd",
        "fcd_ks",
        "fcd_wasserstein",
        "envelope_fc",
        "erp",
        "synchrony",
        "wishart",
    },
}
PART = {"one region": lambda x: x[:, :1], "two samples": lambda x: x[:2]}
WHOLE = [name for name in (*SIGNALS, "wishart") if CASES[name].prediction(X) is X]


@pytest.mark.parametrize("few", TOO_FEW)
@pytest.mark.parametrize("name", WHOLE)
def test_one_region_or_two_samples_are_enough_or_an_error(name, few):
    part, case = PART[few], CASES[name]
    loss = jax.value_and_grad(lambda x: case(x, part(Y)))
    by_itself = few == "one region" and name in ("variance rmse", "lagged_fc rmse")
    if name.split()[0] in TOO_FEW[few] and not by_itself:
        with pytest.raises(
            ValueError, match=r"needs? (at least|more than|the degrees)|leaves the|singular|too short"
        ):
            jax.eval_shape(loss, part(X))
        return
    value, gradient = jax.jit(loss, compiler_options=QUICK)(part(X))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["wishart", "cross_spectra", "whittle"])
def test_a_singular_prediction_of_a_likelihood_is_an_error(name):
    case = CASES[name]
    with pytest.raises(ValueError, match=f"{name} is nan .* a matrix that is not positive definite"):
        case(jnp.asarray(silent_region(X)))
    assert np.isnan(at(name, silent_region)[0])


def test_a_ridge_makes_a_singular_prediction_usable():
    few = jnp.asarray(X[:3])
    with pytest.raises(ValueError, match="3 samples of 4 regions, so its covariance is singular"):
        o.wishart(20.0)(few, Y)
    found, gradient = jax.jit(jax.value_and_grad(lambda x: o.wishart(20.0, ridge=0.01)(x, Y)))(few)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


def test_the_likelihood_of_cross_spectra_has_exact_second_derivatives():
    rng = np.random.default_rng(3)

    def positive(n):
        a = rng.normal(size=(6, 4, n)) + 1j * rng.normal(size=(6, 4, n))
        return jnp.asarray(a @ a.conj().swapaxes(-1, -2) / n)

    first, second, data = positive(20), positive(20), positive(3)

    def loss(p):
        return o.whittle(p[0] * first + p[1] ** 2 * second, p[2] * data, jnp.arange(3.0, 9.0))

    p = jnp.array([0.8, 0.5, 1.2])
    hessian = jax.jit(jax.hessian(loss))(p)
    loss_of, gradient = jax.jit(loss), jax.jit(jax.grad(loss))
    steps = 1e-5 * np.eye(3)
    differences = np.array([(gradient(p + s) - gradient(p - s)) / 2e-5 for s in steps])
    # a step of 1e-5 leaves 1e-10 of the third derivative
    np.testing.assert_allclose(hessian, differences, rtol=0, atol=1e-7 * np.abs(differences).max())
    values = np.array([(loss_of(p + s) - loss_of(p - s)) / 2e-5 for s in steps])
    np.testing.assert_allclose(gradient(p), values, rtol=0, atol=1e-7 * np.abs(values).max())


# --- through the steps of a network -------------------------------------------------------------------------------

TOLERANCE = {"E": 1e-6, "bold": 2e-5}
ROUNDING = 1e-11
CELLS = [("E", name) for name in CASES]
CELLS += [("bold", name) for name in CASES if " " not in name and name not in ("cross_spectra", "whittle")]
FORGOTTEN = "field of initial states"  # by the network, before objectives of later samples look


@cache
def derivatives():
    """Of all objectives of both signals, and of the priors: values, by differences, and by reverse mode."""
    solved = solve()
    values, expected, slopes = {}, {}, {key: [] for key in solved.signals}
    for key, name in CELLS:
        found, gradients = evaluate(name, solved.signals[key])
        values[key, name], expected[key, name] = found[0], solved.differences(found)
        for other, rows in slopes.items():
            rows.append(gradients[0] if other == key else np.zeros_like(gradients[0]))
    values["priors"], expected["priors"] = solved.priors[0], solved.differences(solved.priors)
    found = solved.pulled_back({key: np.stack(rows) for key, rows in slopes.items()})
    return {key: (values[key], expected[key], row) for key, row in zip(expected, found, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize(("signal", "name"), CELLS)
def test_every_objective_in_every_kind_of_parameter(signal, name):
    value, expected, gradient = derivatives()[signal, name]
    solved = solve()
    for direction, difference, kind in zip(solved.directions, expected, solved.kinds, strict=True):
        if (kind in OBSERVER_KINDS) != (signal == "bold"):
            continue
        found = direction @ gradient
        size = np.linalg.norm(direction) * np.linalg.norm(gradient[direction != 0])
        assert abs(found - difference) <= TOLERANCE[signal] * size + ROUNDING * max(1.0, abs(value)), kind
        assert size > 1e-7 * abs(value) or kind == FORGOTTEN, kind  # it matters


@pytest.mark.slow
def test_priors_in_every_kind_of_parameter():
    _, expected, gradient = derivatives()["priors"]
    found = solve().directions @ gradient
    # smooth functions of a few numbers: rounding is all that is left
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    acting = [kind for kind, slope in zip(solve().kinds, found, strict=True) if abs(slope) > 1e-3]
    assert acting == [
        "weights of existing edges",
        "maps under a transform",
        "maps",
        "one factor of two parameters",
    ]


@pytest.mark.slow
def test_nothing_else_is_fitted_and_every_kind_is_here():
    solved = solve()
    assert sorted(solved.names) == sorted(name for own in solved.kinds.values() for name in own)
    assert all(len(signal[0]) * SAMPLE >= 2000 for signal in solved.signals.values())
    assert len(solved.kinds) == len(solved.directions) == len(KINDS) + len(OBSERVER_KINDS)


# --- metrics that have none ------------------------------------------------------------------------------------

EXACT = {
    "fc.functional_connectivity": (lambda x: (x[:, None] * X,), "fc_corr"),
    "fc.fc_correlation": (lambda x: (x[:4, None] * np.eye(4), np.eye(4)), "fc_corr"),
    "fc.fc_rmse": (lambda x: (x[:4, None] * np.eye(4), np.eye(4)), "fc_rmse"),
    "fcd.fcd": (lambda x: (x[:, None] * X, 40, 10), "fcd"),
    "fcd.ks_distance": (lambda x: (x[:9], np.ones(3)), "fcd_ks"),
    "fcd.fcd_ks": (lambda x: (x[:9, None] * np.eye(9), np.eye(9), 2, 1), "fcd_ks"),
    "peaks.alpha_peak": (lambda x: (x[:51], np.linspace(0, 25, 51)), "spectral_peak"),
    "spectra.peak_frequency": (lambda x: (x[:51], np.linspace(0, 25, 51), (5, 15)), "spectral_peak"),
    "spectra.welch_psd": (lambda x: (x[:, None] * X, DT, 100), "psd_log"),
    "spectra.psd_rmse": (lambda x: (x[:51], np.ones(51), np.linspace(0, 25, 51), (5, 15)), "psd_log"),
    "spectra.psd_correlation": (lambda x: (x[:51], np.ones(51), np.linspace(0, 25, 51), (5, 15)), "psd_log"),
    "envelopes.envelope_fc": (lambda x: (x[:, None] * X, 1 / DT, (6, 14)), "envelope_fc"),
    "synchrony.order_parameter": (lambda x: (x[:, None] * X, DT), "synchrony"),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_metrics_refuse_to_be_differentiated(name):
    arguments, instead = EXACT[name]
    module, function = name.split(".")
    metric = getattr(import_module(f"brainloom.analysis.{module}"), function)
    assert callable(getattr(o, instead))
    for transform in (jax.grad, jax.jit):
        with pytest.raises(
            TypeError, match=rf"{function} is an exact metric .* use .*objectives\.{instead}\("
        ):
            transform(lambda x: metric(*arguments(x)))(jnp.ones(N_TIME))


def test_every_exact_metric_is_here():
    folder = Path(analysis.__file__).parent
    found = {
        f"{file.stem}.{part.split(chr(34))[1]}"
        for file in folder.glob("*.py")
        for part in file.read_text().split("refuse_tracing(")[1:]
    }
    assert found == set(EXACT)
