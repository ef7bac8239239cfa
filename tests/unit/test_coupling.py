"""Coupling functions against loops over pairs, by every route that a network takes, and the checks at the border."""

from dataclasses import replace

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, JansenRitStep, LinearStep, NeuralMass, Port, State

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import coupling
from brainloom.core.units import UnitError
from brainloom.coupling import KINDS, Coupling, evaluate, laplacian
from brainloom.models.lowering import lower
from brainloom.network import Network

N = 4
RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.1, 1.0, (N, N)) * (1 - np.eye(N))  # not symmetric
WEIGHTS[2] = 0.0  # receives nothing
WEIGHTS[0, 3] = 0.0
X = RNG.normal(size=(3, N))  # a batch of three

# Values of order 1 for every shape parameter, away from the defaults.
CENTRES = {"sigma": 1.4, "G": 1.5, "cmin": -0.3, "cmax": 1.2, "midpoint": 0.2, "b": 0.4, "theta": 0.3}


def shape_values(kind, variant):
    """Shape parameters as numbers, one a target, or one a pair where the coupling allows it."""
    rng = np.random.default_rng(len(kind) + sum(map(ord, kind)))
    one = KINDS[kind]
    values = {}
    for name in one.parameters:
        shape = {"number": (), "target": (N,), "pair": (N, N) if name in one.pairwise else (N,)}[variant]
        values[name] = CENTRES.get(name, 0.8) * rng.uniform(0.7, 1.3, shape)
    return values


def by_pairs(kind, p, weights, x, target):
    """The formulas of the documentation, one target and one source at a time."""
    n = len(x)

    def at(name, i, j=None):
        value = np.asarray(p[name])
        return float(value if value.ndim == 0 else value[i] if value.ndim == 1 else value[i, j])

    def logistic(z):
        return 1.0 / (1.0 + np.exp(-z))

    degree = [sum(weights[i, j] for j in range(n)) for i in range(n)]
    found = []
    for i in range(n):

        def total(term, i=i):
            return sum(weights[i, j] * term(j) for j in range(n))

        plain = total(lambda j: x[j])
        if kind == "additive":
            value = at("k", i) * plain + at("b", i)
        elif kind == "scaling":
            value = at("k", i) * plain
        elif kind in ("diffusive", "laplacian"):
            value = at("k", i) * total(lambda j, i=i: x[j] - target[i])
        elif kind == "laplacian_rw":
            value = at("k", i) * (plain / degree[i] - target[i]) if degree[i] else 0.0
        elif kind == "laplacian_sym":
            roots = np.sqrt(degree)
            value = 0.0
            if degree[i]:
                sent = sum(
                    weights[i, j] / (roots[i] * roots[j]) * x[j] if roots[j] else 0.0 for j in range(n)
                )
                value = at("k", i) * (sent - target[i])
        elif kind == "sigmoidal":
            inside = at("a", i) * plain + at("b", i) - at("midpoint", i)
            value = at("k", i) * logistic(at("slope", i) * inside)
        elif kind == "sigmoidal_range":
            risen = logistic(at("a", i) * (plain - at("midpoint", i)) / at("sigma", i))
            value = at("k", i) * (at("cmin", i) + (at("cmax", i) - at("cmin", i)) * risen)
        elif kind == "tanh":
            value = at("k", i) * np.tanh(at("scale", i) * plain)
        elif kind == "tanh_presummation":
            value = at("k", i) * total(
                lambda j, i=i: (
                    at("a", i, j)
                    * (1 + np.tanh((at("b", i, j) * x[j] - at("midpoint", i, j)) / at("sigma", i, j)))
                )
            )
        elif kind == "sigmoidal_jansen_rit":
            value = at("k", i) * total(
                lambda j, i=i: (
                    at("cmin", i, j)
                    + (at("cmax", i, j) - at("cmin", i, j))
                    / (1 + np.exp(at("r", i, j) * (at("midpoint", i, j) - x[j])))
                )
            )
        elif kind == "presigmoidal":
            value = at("k", i) * total(
                lambda j, i=i: (
                    at("H", i, j)
                    * (at("Q", i, j) + np.tanh(at("G", i, j) * (at("P", i, j) * x[j] - at("theta", i, j))))
                )
            )
        else:
            assert kind == "kuramoto"
            phase = total(lambda j, i=i: np.sin(x[j] - target[i] - at("alpha", i, j)))
            value = at("k", i) * at("scale", i) * phase
        found.append(value)
    return np.array(found)


VARIANTS = ("number", "target", "pair")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_its_sum_over_pairs(kind, variant):
    p = shape_values(kind, variant)
    target = X[::-1]
    found = evaluate(kind, {k: jnp.asarray(v) for k, v in p.items()}, WEIGHTS, X, jnp.asarray(target))
    expected = [by_pairs(kind, p, WEIGHTS, x, own) for x, own in zip(X, target, strict=True)]
    # sums of four terms of order 1
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_missing_shape_parameters_take_their_defaults():
    for kind, one in KINDS.items():
        given = evaluate(kind, {k: jnp.asarray(v) for k, v in one.parameters.items()}, WEIGHTS, X[0])
        np.testing.assert_array_equal(evaluate(kind, {}, WEIGHTS, X[0]), given)


class Probe(NeuralMass):
    """One port a coupling and one state that collects it; ``x`` and ``y`` stand still."""

    STATES = (State("x", 0.0), State("y", 0.0), *(State(f"got_{kind}", 0.0) for kind in KINDS))
    PORTS = tuple(Port(kind, "1/time", f"got_{kind}") for kind in KINDS)

    @staticmethod
    def rhs(params, state, inputs, t):
        still = {"x": jnp.zeros_like(state["x"]), "y": jnp.zeros_like(state["y"])}
        return still | {f"got_{kind}": inputs[kind] + jnp.zeros_like(state["x"]) for kind in KINDS}


def probe_network(variant, *, sources=("x",), own_weights=False, **options):
    terms = []
    for number, kind in enumerate(KINDS):
        shape = shape_values(kind, variant)
        gain = shape.pop("k")
        shape.pop("scale", None) if kind == "kuramoto" else None  # the network sets it: 1/n
        conn = (1 + 0.1 * number) * WEIGHTS.T if own_weights else None
        terms.append(
            Coupling(kind, sources[number % len(sources)], kind, conn, gain, name=f"c_{kind}", shape=shape)
        )
    node = Probe(N, init_x=X, init_y=0.5 * X[::-1])
    return Network(node, WEIGHTS, couplings=terms, **options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("route", ["dense", "sparse", "delayed"])
def test_a_network_of_all_kinds_gives_the_same_sums_by_every_route(variant, route):
    """Before anything has changed the delayed values are the present ones, so that all routes agree."""
    options = {"dense": {}, "sparse": {"sparse": True}, "delayed": {"delay": RNG.uniform(0.3, 2.0, (N, N))}}
    low = lower(probe_network(variant, **options[route]), 0.1, "euler")
    assert bool(low.structure.block) == (route == "delayed")
    assert all(term.listed == (route != "dense") for term in low.structure.terms)
    noise = jnp.zeros((5, 0, 3, N))
    end, _ = low.advance(low.params, low.init(low.params, batch_size=3), {}, noise)
    for kind in KINDS:
        p = shape_values(kind, variant) | ({"scale": 1 / N} if kind == "kuramoto" else {})
        expected = [by_pairs(kind, p, WEIGHTS, x, x) for x in X]
        np.testing.assert_allclose(end[f"got_{kind}"] / 0.5, expected, rtol=1e-12, atol=1e-13, err_msg=kind)


@pytest.mark.parametrize("delayed", [False, True])
def test_couplings_of_one_network_have_their_own_source_port_and_weights(delayed):
    options = {"delay": RNG.uniform(0.3, 2.0, (N, N))} if delayed else {}
    network = probe_network("number", sources=("x", "y", "source"), own_weights=True, **options)
    low = lower(network, 0.1, "euler")
    assert low.structure.histories == (("x", "y", "source") if delayed else ())
    end, _ = low.step(low.params, low.init(low.params, batch_size=3), {})
    for number, kind in enumerate(KINDS):
        p = shape_values(kind, "number") | ({"scale": 1 / N} if kind == "kuramoto" else {})
        sent = (X, 0.5 * X[::-1], X)[number % 3]
        expected = [by_pairs(kind, p, (1 + 0.1 * number) * WEIGHTS.T, x, x) for x in sent]
        np.testing.assert_allclose(end[f"got_{kind}"] / 0.1, expected, rtol=1e-12, atol=1e-13, err_msg=kind)


def test_couplings_that_meet_at_a_port_are_added_to_its_input():
    terms = [Coupling("additive", "x", "y_input", k=0.3), Coupling("diffusive", "y", "y_input", k=0.7)]
    low = lower(Network(HopfStep(N), WEIGHTS, couplings=terms), 0.1)
    state = {"x": jnp.asarray(X[0]), "y": jnp.asarray(X[1])}
    found = low.field(low.params, state, {"y_input": 0.25})["y"] - HopfStep(N).derivative(state)["y"]
    sums = 0.3 * WEIGHTS @ X[0] + 0.7 * (WEIGHTS @ X[1] - WEIGHTS.sum(1) * X[1])
    np.testing.assert_allclose(found, sums + 0.25, rtol=1e-12, atol=1e-14)


# --- Laplacians --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, name", [("laplacian", None), ("laplacian_rw", "rw"), ("laplacian_sym", "sym")]
)
def test_laplacian_couplings_are_the_product_with_the_laplacian(kind, name):
    matrix = laplacian(jnp.asarray(WEIGHTS), name)
    np.testing.assert_allclose(
        evaluate(kind, {"k": jnp.asarray(0.7)}, WEIGHTS, X), 0.7 * X @ matrix.T, rtol=1e-12, atol=1e-14
    )


def test_laplacians():
    degree = WEIGHTS.sum(axis=1)
    np.testing.assert_allclose(laplacian(jnp.asarray(WEIGHTS)), WEIGHTS - np.diag(degree), rtol=1e-14)
    symmetric = WEIGHTS + WEIGHTS.T  # row 2 is fed now
    degree = symmetric.sum(axis=1)
    np.testing.assert_allclose(
        laplacian(jnp.asarray(symmetric), "rw"), symmetric / degree[:, None] - np.eye(N), rtol=1e-13
    )
    np.testing.assert_allclose(
        laplacian(jnp.asarray(symmetric), "sym"),
        symmetric / np.sqrt(np.outer(degree, degree)) - np.eye(N),
        rtol=1e-13,
    )
    # the constant pattern, scaled by the root of the degree in the symmetric form, stays as it is
    for name, still in ((None, np.ones(N)), ("rw", np.ones(N)), ("sym", np.sqrt(degree))):
        np.testing.assert_allclose(laplacian(jnp.asarray(symmetric), name) @ still, 0.0, atol=1e-14)
    with pytest.raises(ValueError, match="normalisation is 'left'; it must be None, 'rw' or 'sym'"):
        laplacian(jnp.asarray(WEIGHTS), "left")


@pytest.mark.parametrize("name", [None, "rw", "sym"])
def test_rows_without_weights_are_zero_with_finite_gradients(name):
    assert not np.asarray(laplacian(jnp.asarray(WEIGHTS), name))[2].any()
    for weights in (WEIGHTS, np.zeros((N, N))):
        for kind in ("laplacian", "laplacian_rw", "laplacian_sym"):
            value, gradient = jax.value_and_grad(
                lambda w, kind=kind: jnp.sum(jnp.sin(evaluate(kind, {}, w, X)))
            )(jnp.asarray(weights))
            assert np.isfinite(value) and np.isfinite(gradient).all()
    gradient = jax.grad(lambda w: jnp.sum(laplacian(w, name) @ jnp.asarray(X[0])))(jnp.asarray(WEIGHTS))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0.01


def test_the_plain_laplacian_is_diffusive_coupling():
    np.testing.assert_array_equal(
        evaluate("laplacian", {}, WEIGHTS, X), evaluate("diffusive", {}, WEIGHTS, X)
    )


def test_weights_stay_as_they_are_given():
    for given in (WEIGHTS, brainstate.nn.Param(jnp.asarray(WEIGHTS), fit=False)):
        network = Network(LinearStep(N), given, coupling="laplacian")
        np.testing.assert_array_equal(network.parameter_values()["weights"], WEIGHTS)
        assert not network.trainable()
    network = Network(LinearStep(N), brainstate.nn.Param(jnp.asarray(WEIGHTS)), coupling="laplacian_rw")
    np.testing.assert_array_equal(network.parameter_values()["weights"], WEIGHTS)
    assert list(network.trainable()) == ["weights"]


# --- Kuramoto ------------------------------------------------------------------------------------------------


def test_kuramoto_is_divided_by_the_number_of_regions_unless_told_otherwise():
    state = {"x": jnp.asarray(X[0])}
    for divide, scale in ((True, 1 / N), (False, 1.0)):
        network = Network(
            LinearStep(N, gamma=0.0), WEIGHTS, coupling="kuramoto", k=0.3, alpha=0.2, divide_by_n=divide
        )
        low = lower(network, 0.1)
        sines = [sum(WEIGHTS[i, j] * np.sin(X[0, j] - X[0, i] - 0.2) for j in range(N)) for i in range(N)]
        np.testing.assert_allclose(
            low.field(low.params, state, {})["x"], 0.3 * scale * np.array(sines), rtol=1e-12, atol=1e-15
        )


# --- range ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if not k.startswith(("additive", "scaling", "diff", "lapl"))]
)
def test_bounded_couplings_are_finite_in_single_precision_far_out(kind):
    """So are their gradients, where an exponential would have overflowed."""
    x = jnp.asarray([-1e6, -300.0, 0.0, 1e6], jnp.float32)
    p = {k: jnp.asarray(v, jnp.float32) for k, v in KINDS[kind].parameters.items()}
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    value, gradient = jax.value_and_grad(lambda p, w, x: jnp.sum(evaluate(kind, p, w, x)), argnums=(0, 1, 2))(
        p, weights, x
    )
    assert value.dtype == np.float32 and np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# --- what a network refuses ----------------------------------------------------------------------------------


def test_units_are_checked_at_the_border():
    def columns(**options):
        return Network(JansenRitStep(N), WEIGHTS, coupling="additive", coupled_var="potential", **options)

    # mV into a port that takes a rate: a plain gain cannot close that
    with pytest.raises(
        UnitError, match="potential of JansenRitStep is sent in mV, but its port rate takes Hz"
    ):
        columns()
    with pytest.raises(UnitError, match=r"sent in mV.*its port rate takes Hz"):
        columns(k=0.3 * u.mV)
    assert float(columns(k=3.0 * u.Hz / u.mV).parameter_values()["coupling.k"]) == pytest.approx(3.0)
    # 2 per ms and volt are 2000 Hz over 1000 mV
    assert float(columns(k=2.0 / u.ms / u.volt).parameter_values()["coupling.k"]) == pytest.approx(2.0)
    assert float(columns(port="membrane").parameter_values()["coupling.k"]) == 1.0  # mV into mV
    rate = Network(LinearStep(N), WEIGHTS, k=50.0 * u.Hz)  # dimensionless activity into a port in 1/ms
    assert float(rate.parameter_values()["coupling.k"]) == pytest.approx(0.05)
    with pytest.raises(UnitError, match="x of LinearStep is sent in mV"):
        Network(LinearStep(N), WEIGHTS, k=0.3 * u.mV, coupled_var="x")


def test_wrong_couplings_are_errors_that_name_what_there_is():
    node = LinearStep(N)
    with pytest.raises(ValueError, match="coupling is 'electric'; it must be one of additive, diffusive"):
        Network(node, WEIGHTS, coupling="electric")
    with pytest.raises(ValueError, match="coupling is 'electric'"):
        evaluate("electric", {}, WEIGHTS, X)
    with pytest.raises(ValueError, match="LinearStep has no observable 'y'; it has source, bold, eeg, x"):
        Network(node, WEIGHTS, coupled_var="y")
    with pytest.raises(ValueError, match="LinearStep has no port 'drive'; it has current"):
        Network(node, WEIGHTS, port="drive")
    with pytest.raises(ValueError, match="2 coupled variables but 1 ports"):
        Network(node, WEIGHTS, coupled_var=("x", "source"))
    with pytest.raises(ValueError, match="coupling 'tanh' has no parameter slope; it has k, scale"):
        Network(node, WEIGHTS, coupling="tanh", slope=2.0)
    with pytest.raises(ValueError, match="two couplings have the same name, among local, local"):
        Network(node, WEIGHTS, couplings=[Coupling(name="local"), Coupling("additive", name="local")])
    with pytest.raises(ValueError, match="coupling_0 has no weights"):
        Network(node, couplings=[Coupling()])
    with pytest.raises(TypeError, match="unknown keyword scale"):
        Network(node, WEIGHTS, couplings=[Coupling()], scale=2.0)


def test_a_coupling_of_a_user_works_like_the_others(monkeypatch):
    monkeypatch.setattr(coupling, "KINDS", dict(KINDS))
    square = replace(KINDS["scaling"], pre=lambda p, x: (x * x,))
    coupling.register_coupling("quadratic", square)
    with pytest.raises(ValueError, match="there is a coupling 'quadratic' already"):
        coupling.register_coupling("quadratic", square)
    low = lower(Network(LinearStep(N, gamma=0.0), WEIGHTS, coupling="quadratic", k=2.0), 0.1)
    found = low.field(low.params, {"x": jnp.asarray(X[0])}, {})["x"]
    np.testing.assert_allclose(found, 2.0 * WEIGHTS @ X[0] ** 2, rtol=1e-12, atol=1e-15)
