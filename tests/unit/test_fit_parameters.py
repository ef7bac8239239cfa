"""Parameters of fits: bounds, units, fields, edges, maps, groups, ties; priors against their formulas."""

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brainstate.nn import L2Reg, SigmoidT

from brainloom import (
    BOLD,
    Fitter,
    HopfStep,
    JansenRitStep,
    Network,
    OUProcess,
    WilsonCowanStep,
    lower,
)
from brainloom.core.units import UnitError
from brainloom.fit import parameters as P
from brainloom.fit import transforms as T
from brainloom.fit.trainable import Trainable

N = 4
RNG = np.random.default_rng(4)
WEIGHTS = np.array([[0, 0.5, 0, 0.2], [0.5, 0, 0.7, 0], [0, 0.7, 0, 0.9], [0.2, 0, 0.9, 0]])
LENGTHS = 30.0 + 40.0 * RNG.uniform(size=(N, N))
MAPS = {"gradient": np.array([-1.0, -0.5, 0.5, 1.0]), "myelin": np.array([0.2, 0.9, 0.4, 0.1])}
# Values go to unconstrained numbers and back by elementary functions: a few units in the last place.
EXACT = {"rtol": 1e-13}


def plain(value, unit=None):
    return np.asarray(value.to_decimal(unit) if unit is not None else value)


# --- transforms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "values"),
    [
        (T.Interval(0.0, 2.0), [1e-15, 1e-9, 0.3, 1.999, 2.0 - 1e-9]),
        (T.Interval(np.array([0.0, 1.0]), np.array([1.0, 5.0])), [0.5, 4.0]),
        (T.Log(0.0), [1e-12, 1.0, 1e12]),
        (T.Log(2.0, 0.1), [2.0 + 1e-9, 2.1, 50.0]),
        (T.Softplus(0.0, 1e-3), [1e-9, 1e-3, 5.0]),
        (T.Softplus(-1.0), [-0.999, 0.0, 700.0]),
        (T.Ordered(0.1), [-3.0, -2.9, 0.0, 40.0]),
        (T.Scale(0.1), [-3.0, 0.0, 2.0]),
    ],
)
def test_transforms_invert_themselves_and_know_their_slope(t, values):
    y = jnp.asarray(values)
    x = t.inverse(y)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(
        t.forward(x), y, rtol=1e-9, atol=1e-300
    )  # 2.0 - 1e-9 has 1e-16 / 1e-9 of itself
    slope = jax.jacfwd(t.forward)(x)
    expected = np.linalg.slogdet(slope)[1]
    np.testing.assert_allclose(t.log_abs_det_jacobian(x, y), expected, rtol=1e-9, atol=1e-9)
    # far from the middle the slope is still that of the function, not 0 as behind a clipped exponent
    if isinstance(t, T.Log):
        np.testing.assert_allclose(jax.grad(t.forward)(25.0), np.exp(25.0) * np.asarray(t.scale), **EXACT)
    if isinstance(t, T.Interval) and np.ndim(t.lower) == 0:
        assert jax.grad(lambda x: t.forward(x))(-30.0) > 0


def test_starts_outside_of_the_range_are_refused():
    for make in (
        lambda: P.positive(0.0),
        lambda: P.positive(-1.0 * u.mV),
        lambda: P.interval(1.0, 1.0, 2.0),
        lambda: P.interval([0.5, 1.5], 0.0, 1.0),
        lambda: P.ordered([1.0, 3.0, 2.0]),
        lambda: P.softplus(1.0, lower=2.0),
        lambda: P.free(np.nan),
    ):
        with pytest.raises(ValueError, match="not strictly inside the range"):
            make()
    with pytest.raises(ValueError, match=r"the value is 3 mV, .* \(0 mV, 1 mV\)"):
        P.interval(3.0 * u.mV, 0.0, 1.0)
    with pytest.raises(ValueError, match="low end"):
        P.interval(0.5, 1.0, 0.0)
    with pytest.raises(UnitError, match="an end of the interval is given in ms"):
        P.interval(0.5 * u.mV, 0.0 * u.ms, 1.0)
    with pytest.raises(UnitError, match="given in ms, but its unit is mV"):
        P.positive(1.0 * u.ms, "mV")
    with pytest.raises(UnitError, match="does not fit the range"):
        P.Free(1.0 * u.ms, None, T.Log(0.0 * u.mV))
    with pytest.raises(ValueError, match="it must be None"):
        P.field(1.0, N, t="sigmoid")
    with pytest.raises(ValueError, match="4 regions need a number or"):
        P.field(np.ones(3), N)
    value = P.interval(0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="not strictly inside"):
        value.set_value(1.0)
    with pytest.raises(ValueError, match="has shape"):
        value.set_value([0.2, 0.3])


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.free(-3.0, "mV"),
        lambda: P.free(-3.0 * u.mV, scale=0.1 * u.mV),
        lambda: P.positive(2.0, u.mV),
        lambda: P.positive(2.0, "mV", lower=1000.0 * u.uvolt),
        lambda: P.softplus([2.0, 3.0] * u.mV),
        lambda: P.interval(2.0, 0.001 * u.volt, 5.0, "mV"),
        lambda: P.ordered([1.0, 2.0, 4.0], "mV"),
        lambda: P.field(2.0, N, "mV", t=(1.0, 3.0)),
        lambda: P.grouped("LRLR", [1.0, 2.0], "mV", t="positive"),
        lambda: P.from_maps(MAPS, 2.0, 0.1, "mV"),
        lambda: P.from_maps(MAPS, 2.0, 0.1, "mV", t="positive"),
        lambda: P.tied(P.positive(2.0), factor=3.0 * u.mV),
        lambda: P.edges(WEIGHTS, "mV"),
    ],
)
def test_units_survive(make):
    param = make()
    value = param.value()
    assert value.unit == u.mV and value.dtype == jnp.float64
    raw = param.val.value
    np.testing.assert_allclose(plain(param.t.forward(raw), u.mV), plain(value, u.mV), **EXACT)
    # what an optimiser sees has no unit
    if isinstance(param, P.Free):
        assert not isinstance(raw, u.Quantity)
        param.set_value(value * 1.01)
        np.testing.assert_allclose(plain(param.value(), u.mV), 1.01 * plain(value, u.mV), **EXACT)
        param.set_value(plain(value, u.mV))  # plain numbers are in its unit
        np.testing.assert_allclose(plain(param.value(), u.mV), plain(value, u.mV), **EXACT)


# --- fields, edges, maps, groups, ties --------------------------------------------------------------------


def test_fields_and_groups_are_explicit_arrays():
    np.testing.assert_array_equal(P.field(0.5, 3, t="softplus").value(), np.full(3, P.softplus(0.5).value()))
    groups = P.grouped(["vis", "dmn", "vis", "som"], {"som": 3.0, "vis": 1.0, "dmn": 2.0})
    assert groups.labels == ("vis", "dmn", "som")
    np.testing.assert_array_equal(groups.value(), [1.0, 2.0, 1.0, 3.0])
    groups.values.set_value([4.0, 5.0, 6.0])
    np.testing.assert_array_equal(groups.value(), [4.0, 5.0, 4.0, 6.0])
    with pytest.raises(ValueError, match="the groups are vis, dmn"):
        P.grouped(["vis", "dmn"], {"vis": 1.0})
    with pytest.raises(ValueError, match="2 groups need"):
        P.grouped(["vis", "dmn"], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="computed from values; set those"):
        groups.set_value(1.0)


def test_maps_are_a_linear_predictor_under_a_transform():
    c = np.array([0.3, -0.2])
    table = np.array(list(MAPS.values()))
    linear = P.from_maps(MAPS, 0.5, c)
    assert linear.names == ("gradient", "myelin")
    np.testing.assert_allclose(linear.value(), 0.5 + c @ table, **EXACT)
    rising = P.from_maps(table, 0.5, c, t="positive")
    np.testing.assert_allclose(rising.value(), 0.5 * np.exp(c @ table), **EXACT)
    bounded = P.from_maps(table, 0.5, 100 * c, t=(0.0, 2.0))
    expected = 2.0 / (1.0 + np.exp(-(np.log(0.25 / 0.75) + 100 * c @ table)))
    np.testing.assert_allclose(bounded.value(), expected, rtol=1e-11)
    assert bounded.t.lower == 0.0 and bounded.t.upper == 2.0
    own = P.from_maps(table[0], P.free(-1.0), P.interval([0.1], 0.0, 1.0), "mV", t="log")
    np.testing.assert_allclose(plain(own.value(), u.mV), np.exp(-1.0 + 0.1 * table[0]), **EXACT)
    z = (table - table.mean(axis=1, keepdims=True)) / table.std(axis=1, keepdims=True)
    np.testing.assert_allclose(P.from_maps(MAPS, 0.5, c, standardise=True).value(), 0.5 + c @ z, **EXACT)
    with pytest.raises(ValueError, match="map flat is the same everywhere"):
        P.from_maps({"flat": np.ones(3)}, 0.5, standardise=True)
    with pytest.raises(ValueError, match="2 maps need"):
        P.from_maps(table, 0.5, [0.1, 0.2, 0.3])


def test_edges_fill_the_matrix_they_came_from():
    lopsided = np.triu(WEIGHTS) * [1.0, 2.0, 3.0, 4.0] + np.tril(WEIGHTS)
    for symmetric, weights in ((False, lopsided), (True, WEIGHTS)):
        edges = P.edges(weights, symmetric=symmetric)
        np.testing.assert_allclose(edges.value(), weights, **EXACT)
        assert len(edges.rows) == (weights != 0).sum() // (1 + symmetric)
        edges.values.set_value(2.0 * edges.values.value())
        np.testing.assert_allclose(edges.value(), 2.0 * weights, **EXACT)
    every = P.edges(WEIGHTS, existing=False, t=None)
    assert len(every.rows) == N * (N - 1)
    np.testing.assert_allclose(every.value(), WEIGHTS, **EXACT)
    with pytest.raises(ValueError, match="differ from their transpose"):
        P.edges(lopsided, symmetric=True)
    with pytest.raises(ValueError, match="not strictly inside"):
        P.edges(WEIGHTS, existing=False)
    with pytest.raises(ValueError, match="nothing to fit"):
        P.edges(np.eye(3))


def test_ties_follow_their_source_and_a_fit_sees_it_once():
    source = P.interval(2.0, 1.0, 4.0, prior=P.Gaussian(1.0, 0.5))
    a, b = P.tied(source, factor=[-0.1, -0.2]), P.tied(source, lambda s: s**2)
    model = Network(HopfStep(2, a=a, w=b), WEIGHTS[:2, :2], k=source)
    trainable = Trainable(model)
    assert list(trainable.states) == ["k"]
    source.set_value(3.0)
    found = trainable.constrained(trainable.leaves())
    np.testing.assert_allclose(found["node.a"], [-0.3, -0.6], **EXACT)
    np.testing.assert_allclose(found["node.w"], 9.0, **EXACT)
    np.testing.assert_allclose(model.parameter_values()["a"], [-0.3, -0.6], **EXACT)
    np.testing.assert_allclose(model.reg_loss(), 0.5 * (2.0 / 0.5) ** 2, **EXACT)  # not three times
    np.testing.assert_allclose(P.tied(source, factor=2.0).t.upper, 8.0, **EXACT)
    sum_of_two = P.tied((source, P.free(1.0)), lambda x, y: x + y)
    np.testing.assert_allclose(sum_of_two.value(), 4.0, **EXACT)
    with pytest.raises(TypeError, match="needs Params"):
        P.tied(2.0)
    with pytest.raises(ValueError, match="not both"):
        P.tied(source, lambda s: s, factor=1.0)


def test_a_parameter_may_be_kept_as_it_is():
    fixed = P.grouped("LR", 1.0, fit=False)
    assert not fixed.fit and fixed.reg_loss() == 0.0
    node = HopfStep(2, a=fixed, w=P.positive(0.3), beta=P.positive(1.0, fit=False))
    trainable = Trainable(node)
    assert list(trainable.states) == ["w"] and set(trainable.constrained(trainable.leaves())) == {"w"}


# --- in models, networks, noise, observers, fits -----------------------------------------------------------


def test_parameters_are_the_arrays_that_they_stand_for_everywhere():
    """A network with parameters of every sort, and one with their values."""

    def network(value):
        node = HopfStep(
            N,
            a=value(P.from_maps(MAPS, -0.2, 0.05)),
            w=value(P.grouped("LRLR", [200.0, 300.0] * u.Hz)),
            noise_x=OUProcess(sigma=value(P.positive(0.05)), tau=value(P.positive(20.0, u.ms))),
            init_x=0.5,
        )
        speed = value(P.tied(P.interval(8.0, 4.0, 20.0), factor=1.0))
        return Network(node, value(P.edges(WEIGHTS)), distance=LENGTHS, speed=speed, k=value(P.positive(0.3)))

    model, other = network(lambda param: param), network(lambda param: param.value())
    found, expected = model.parameter_values(), other.parameter_values()
    assert set(found) == set(expected) and "noise_x.tau" in found and "delay" in found
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], err_msg=name, **EXACT)
    # delays are planned for all speeds: 70 mm at 4 mm/ms are 35 steps
    steps = [one.structure("heun", 0.5).length for one in (model, other)]
    assert steps[0] > 2 * LENGTHS.max() / 4.0 > 2 * LENGTHS.max() / 8.0 + 2 > steps[1] - 2
    # only the edges that exist are kept in the lists of delayed sources
    lists = [m.parameter_values()["coupling.sources"].shape for m in (model, other)]
    assert lists[0] == lists[1] == (N, 2)
    assert set(model.trainable()) >= {"a", "w", "weights", "speed", "coupling.k", "noise_x.sigma"}
    # `lower` takes the numbers of the parts
    low = lower(model, 0.5)
    values = low.constrain(low.params)
    np.testing.assert_allclose(values["a"], other.parameter_values()["a"], **EXACT)
    np.testing.assert_allclose(values["delay"], other.parameter_values()["delay"], **EXACT)


def test_observers_and_filters_take_them():
    tau = P.interval(0.98, 0.5, 2.0, u.second)
    seen = [BOLD(5 * u.ms, tau=one).values(u.UNITLESS, "ms") for one in (tau, tau.value())]
    np.testing.assert_allclose(seen[0]["tau"], seen[1]["tau"], **EXACT)
    assert seen[0]["tau"] == 0.98


def test_initial_states_take_them():
    node = JansenRitStep(2, init_y0=P.positive([100.0, 200.0], u.uvolt))
    np.testing.assert_allclose(node.initial_values()["y0"], [0.1, 0.2], **EXACT)  # mV
    assert list(Trainable(node).states) == ["init_y0"]
    node.init_y0.set_value([300.0, 400.0])
    np.testing.assert_allclose(node.initial_values(batch_size=3)["y0"], [[0.3, 0.4]] * 3, **EXACT)


def test_best_params_have_units_and_a_fit_saves_them(tmp_path):
    n = 3
    node = WilsonCowanStep(
        n,
        tau_e=P.grouped("LRR", [8.0, 12.0], u.ms, t=(1.0, 50.0)),
        P=P.from_maps([[-1.0, 0.0, 1.0]], 1.0, 0.0, t="positive"),
        w_ee=P.field(12.0, n, prior=P.Gaussian(12.0, 1.0)),
    )
    target = {"tau": np.array([10.0, 15.0, 15.0]), "P": np.exp(np.array([-0.5, 0.0, 0.5])) * 1.2}

    def loss(model):
        p = model.parameter_values()
        fit = jnp.sum((p["tau_e"] - target["tau"]) ** 2) + jnp.sum((p["P"] - target["P"]) ** 2)
        return fit + model.reg_loss() + 0.0 * jnp.sum(p["w_ee"])

    result = Fitter(node, loss_fn=loss, backend="scipy").fit(n_steps=100)
    assert set(result.best_params) == {"tau_e", "tau_e.values", "P", "P.bias", "P.coefficients", "w_ee"}
    # L-BFGS-B ends within the square root of its tolerance
    np.testing.assert_allclose(plain(result.best_params["tau_e.values"], u.ms), [10.0, 15.0], rtol=1e-4)
    np.testing.assert_allclose(plain(result.best_params["tau_e"], u.ms), target["tau"], rtol=1e-4)
    np.testing.assert_allclose(result.best_params["P.coefficients"], [0.5], rtol=1e-3)
    np.testing.assert_allclose(result.best_params["P"], target["P"], rtol=1e-4)
    assert result.to_xarray()["tau_e"].attrs["units"] == "ms" and result.to_xarray()["tau_e"].dims == (
        "region",
    )
    result.save(tmp_path / "fit.npz")
    again = type(result).load(tmp_path / "fit.npz")
    assert again.best_params["tau_e"].unit == u.ms
    with pytest.raises(UnitError, match="search_space of tau_e"):
        Fitter(node, loss_fn=loss, search_space={"tau_e.values": (1 * u.mV, 2 * u.mV)}).fit(n_steps=1)


# --- priors --------------------------------------------------------------------------------------------------


def test_gaussian_priors_in_both_spaces():
    x = np.array([0.3, 0.9])
    np.testing.assert_allclose(P.Gaussian(0.5, 0.2)(x), 0.5 * np.sum(((x - 0.5) / 0.2) ** 2), **EXACT)
    inside = P.positive(x, u.mV, prior=P.Gaussian(500.0 * u.uvolt, 0.2 * u.mV))
    np.testing.assert_allclose(inside.reg_loss(), 0.5 * np.sum(((x - 0.5) / 0.2) ** 2), **EXACT)
    relative = P.positive(x, prior=P.Gaussian(0.5, 0.3, "unconstrained"))
    np.testing.assert_allclose(relative.reg_loss(), 0.5 * np.sum((np.log(x / 0.5) / 0.3) ** 2), **EXACT)
    both = P.positive(x, prior=P.Gaussian(0.5, 0.3, "unconstrained") + P.Sparse(2.0))
    expected = relative.reg_loss() + 2.0 * np.sum(np.sqrt(x**2 + 1e-6) - 1e-3)
    np.testing.assert_allclose(both.reg_loss(), expected, **EXACT)
    # draws have the moments of the prior: 4 standard errors of 4,000 draws
    many = P.positive(np.full(4000, 0.5), prior=P.Gaussian(0.5, 0.3, "unconstrained"))
    logs = np.log(many.draw(jax.random.key(1)) / 0.5)
    assert abs(logs.mean()) < 4 * 0.3 / np.sqrt(4000) and abs(logs.std() / 0.3 - 1) < 4 / np.sqrt(8000)
    many = P.free(np.zeros(4000) * u.mV, prior=P.Gaussian(1.0 * u.mV, 2.0 * u.mV))
    drawn = plain(many.draw(jax.random.key(1)), u.mV)
    assert abs(drawn.mean() - 1.0) < 4 * 2.0 / np.sqrt(4000) and abs(drawn.std() / 2 - 1) < 4 / np.sqrt(8000)
    with pytest.raises(ValueError, match="no Gaussian prior"):
        P.free(1.0).draw(jax.random.key(0))
    with pytest.raises(UnitError, match="centred at a value in mV"):
        P.free(1.0, prior=P.Gaussian(1 * u.mV, 0.1 * u.mV))
    with pytest.raises(ValueError, match="needs the transform"):
        P.Gaussian(1.0, 0.1, "unconstrained")(1.0)
    with pytest.raises(ValueError, match="must be positive"):
        P.Gaussian(1.0, 0.0)
    with pytest.raises(ValueError, match="give that prior to its parts"):
        P.grouped("LR", 1.0, prior=P.Gaussian(1.0, 0.1, "unconstrained"))


def test_penalties_are_their_sums():
    x = RNG.normal(size=N)
    w = WEIGHTS / WEIGHTS.sum(axis=1).mean()
    pairs = sum(w[i, j] * (x[i] - x[j]) ** 2 for i in range(N) for j in range(N)) / 4
    np.testing.assert_allclose(P.Smooth(WEIGHTS, 3.0)(x), 3.0 * pairs, **EXACT)
    np.testing.assert_allclose(P.Smooth(5.0 * WEIGHTS, 3.0)(x), 3.0 * pairs, **EXACT)
    np.testing.assert_allclose(P.Smooth(WEIGHTS)(np.ones(N)), 0.0, atol=1e-15)
    mirrored = P.Homotopic([0, 1], [3, 2], 2.0, scale=0.5)
    np.testing.assert_allclose(mirrored(x), 4.0 * ((x[0] - x[3]) ** 2 + (x[1] - x[2]) ** 2), **EXACT)
    partners = P.Homotopic([3, 2, 1, 0], strength=2.0, scale=0.5)  # the counterpart of each region
    np.testing.assert_allclose(partners(x), mirrored(x), **EXACT)
    np.testing.assert_allclose(P.Homotopic([3, -1, -1, 0])(x), 0.5 * (x[0] - x[3]) ** 2, **EXACT)
    sparse = P.Sparse(0.7, centre=0.1, scale=2.0, width=0.01)
    z = (x - 0.1) / 2.0
    np.testing.assert_allclose(sparse(x), 0.7 * np.sum(np.sqrt(z**2 + 1e-4) - 0.01), **EXACT)
    assert sparse(np.full(3, 0.1)) == 0.0 and jax.grad(sparse.loss)(jnp.asarray(0.1)) == 0.0
    with pytest.raises(ValueError, match="Smooth has 4 regions"):
        P.field(1.0, 3, prior=P.Smooth(WEIGHTS))
    with pytest.raises(ValueError, match="region 1 has the counterpart 0, but region 0 has 2"):
        P.Homotopic([2, 0, 0])
    with pytest.raises(ValueError, match="names region 7"):
        P.field(1.0, 3, prior=P.Homotopic([0], [7]))
    with pytest.raises(UnitError, match="give the scale in a unit that fits"):
        P.field(1.0, N, "mV", prior=P.Smooth(WEIGHTS))


def test_fits_under_penalties_find_the_optimum_that_is_known():
    """Of ``|x - data|^2 / 2`` plus the penalty; both are quadratic but for sparsity, a soft threshold."""
    data = np.array([2.0, -0.3, 0.1, 1.0])

    class Fields(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.homotopic = P.field(0.5, N, prior=P.Homotopic([0, 1], [3, 2], 2.0))
            self.smooth = P.field(0.5, N, prior=P.Smooth(WEIGHTS, 3.0))
            self.sparse = P.field(0.5, N, prior=P.Sparse(0.5))

    def loss(model):
        fields = (model.homotopic, model.smooth, model.sparse)
        return sum(0.5 * jnp.sum((x.value() - data) ** 2) for x in fields) + model.reg_loss()

    options = {"method": "L-BFGS-B", "options": {"ftol": 1e-15, "gtol": 1e-10}}
    found = Fitter(Fields(), options, loss_fn=loss, backend="scipy").fit(n_steps=200).best_params
    middle, apart = 0.5 * (data + data[::-1]), 0.5 * (data - data[::-1])
    # the search ends where slopes are rounding: 1e-8 of values of order 1
    np.testing.assert_allclose(found["homotopic"], middle + apart / (1 + 2 * 2.0), atol=1e-6)
    w = WEIGHTS / WEIGHTS.sum(axis=1).mean()
    laplacian = np.diag(w.sum(axis=1)) - w
    expected = np.linalg.solve(np.eye(N) + 3.0 * laplacian, data)
    np.testing.assert_allclose(found["smooth"], expected, atol=1e-6)
    # rounded off over 1e-3 around 0
    np.testing.assert_allclose(found["sparse"], [1.5, 0.0, 0.0, 0.5], atol=1e-3)


def test_priors_add_up_in_the_model_and_enter_the_loss_of_a_prediction():
    field = P.field(
        np.arange(1.0, 5.0), N, "mV", prior=[P.Smooth(WEIGHTS, scale=2 * u.mV), P.Sparse(scale=u.mV)]
    )
    edges = P.edges(WEIGHTS, prior=P.Sparse(0.1), edge_prior=P.Gaussian(0.5, 1.0))
    maps = P.from_maps(
        MAPS, 0.2, 0.1, coefficient_prior=P.Gaussian(0.0, 0.5), prior=P.Homotopic([0, 1], [3, 2])
    )

    class Model(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.field, self.weights, self.maps = field, edges, maps
            self.old = brainstate.nn.Param(2.0, reg=L2Reg(0.5))

    model = Model()
    x = np.arange(1.0, 5.0)
    parts = [
        P.Smooth(WEIGHTS)(x / 2.0) + P.Sparse()(x),
        P.Sparse(0.1)(WEIGHTS),
        P.Gaussian(0.5, 1.0)(WEIGHTS[WEIGHTS != 0]),
        P.Gaussian(0.0, 0.5)(np.array([0.1, 0.1])),
        P.Homotopic([0, 1], [3, 2])(maps.value()),
        0.5 * 4.0,
    ]
    np.testing.assert_allclose(model.reg_loss(), sum(parts), **EXACT)
    fitter = Fitter(model, predict=lambda m: m.old.value() * jnp.ones(3), backend="scipy")
    result = fitter.fit(2.0 * np.ones(3), n_steps=1)
    np.testing.assert_allclose(result.history[0], sum(parts), **EXACT)
    field.set_value(2.0 * x)
    assert model.reg_loss() > sum(parts)
    np.testing.assert_allclose(P.Gaussian(1.0, 0.1).reset_value(), 1.0)


def test_parameters_can_be_made_inside_of_compiled_functions():
    def f(start):
        node = JansenRitStep(2, A=P.positive(start, u.mV), p=P.from_maps([[0.0, 1.0]], start, 0.1))
        return jnp.sum(node.parameter_values()["A"] ** 2) + jnp.sum(node.parameter_values()["p"])

    value, slope = jax.jit(jax.value_and_grad(f))(3.0)
    np.testing.assert_allclose([value, slope], [9.0 + 6.1, 6.0 + 2.0], **EXACT)


def test_brainstate_transforms_work_too():
    np.testing.assert_allclose(P.field(0.3, 2, t=SigmoidT(0.0, 1.0)).value(), 0.3, **EXACT)
