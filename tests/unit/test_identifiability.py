"""Errors and identifiability of fits against closed forms, scipy's derivatives, and refits."""

from __future__ import annotations

from types import SimpleNamespace

import brainloom.models  # before brainstate

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import brainloom
from brainloom import Fitter, objectives
from brainloom.core.errors import StoreError
from brainloom.fit import Identification, identify
from brainloom.fit import parameters as P
from brainloom.fit.identifiability import IdentifyError
from brainloom.fit.readout import natural_scales
from brainloom.fit.trainable import Trainable

Z90 = norm.ppf(0.95)
NOISE = 0.3
RNG = np.random.default_rng(0)
DESIGN = RNG.normal(size=(50, 3))
DATA = (DESIGN @ [1.0, 2.0, -1.0] + NOISE * RNG.normal(size=50))[:, None]
TIME = np.linspace(0.0, 3.0, 40)


class Model(brainstate.nn.Module):
    """Anything with parameters."""

    def __init__(self, **parameters):
        super().__init__()
        for name, value in parameters.items():
            setattr(self, name, value)


def line(**options) -> Fitter:
    """Linear regression, whose errors are known."""
    model = Model(b=brainstate.nn.Param(jnp.zeros(3), **options))
    return Fitter(
        model,
        predict=lambda one: (DESIGN @ one.b.value())[:, None],
        objective=objectives.gaussian(NOISE),
        backend="scipy",
    )


def decay(objective=None) -> Fitter:
    """``a exp(-t / tau)``."""
    model = Model(a=P.positive(1.5, u.mV), tau=P.interval(0.8, 0.1, 5.0, u.second))
    return Fitter(
        model,
        predict=lambda one: (one.a.value() * jnp.exp(-(TIME * u.second / one.tau.value())))[:, None],
        objective=objective or objectives.gaussian(0.05 * u.mV),
        backend="scipy",
    )


DECAY = (2.0 * np.exp(-TIME) + 0.05 * np.random.default_rng(1).normal(size=40))[:, None] * u.mV


@pytest.mark.parametrize("method", ["hessian", "gauss_newton"])
def test_errors_of_linear_regression_are_exact(method):
    fitter = line()
    fitter.fit(DATA, n_steps=200)
    found = fitter.identify(DATA, method=method)
    exact = NOISE**2 * np.linalg.inv(DESIGN.T @ DESIGN)
    np.testing.assert_allclose(found.covariance, exact, rtol=1e-9, atol=1e-14)
    one = found.estimates["b"]
    np.testing.assert_allclose(one.sd, np.sqrt(np.diag(exact)), rtol=1e-9)
    np.testing.assert_allclose(one.upper - one.value, Z90 * one.sd, rtol=1e-9)
    np.testing.assert_allclose(found.correlation, exact / np.outer(one.sd, one.sd), rtol=1e-9, atol=1e-12)
    assert np.abs(found.step).max() < 0.01 and found.negative == 0.0
    assert np.isnan(one.contraction).all() and (found.identified("b") == "yes").all()
    # the same by the function, and in the words of a summary
    assert np.array_equal(identify(fitter, DATA, method=method).covariance, found.covariance)
    assert "b: of 3 values, 3 identified" in found.summary() and "not converged" not in found.summary()


def test_the_posterior_of_a_gaussian_prior_is_exact():
    sd = 0.02
    fitter = line(reg=P.Gaussian(0.5, sd))
    fitter.fit(DATA, n_steps=300)
    found = fitter.identify(DATA)
    data = DESIGN.T @ DESIGN / NOISE**2
    exact = np.linalg.inv(data + np.eye(3) / sd**2)
    np.testing.assert_allclose(found.covariance, exact, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(found.information, data, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.prior, np.eye(3) / sd**2, rtol=1e-9, atol=1e-8)
    one = found.estimates["b"]
    np.testing.assert_allclose(one.contraction, 1.0 - np.sqrt(np.diag(exact)) / sd, rtol=1e-8)
    assert set(found.identified("b")) <= {"no", "weak"}
    # a sloppy direction is one of which the data say less than the prior
    assert found.spectrum.n_sloppy == (np.linalg.eigvalsh(data) * sd**2 < 1.0).sum()
    # errors of any loss are the same where its gradient spreads as its curvature says
    np.testing.assert_allclose(fitter.identify(DATA, errors=data).covariance, exact, rtol=1e-8, atol=1e-14)
    # a loss_fn that holds the same prior is taken apart, too
    model = fitter.model

    def loss_fn(one):
        value = objectives.gaussian(NOISE)((DESIGN @ one.b.value())[:, None], DATA)
        return value + one.reg_loss()

    same = Fitter(model, loss_fn=loss_fn).identify(errors="likelihood")
    np.testing.assert_allclose(same.covariance, exact, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(same.estimates["b"].contraction, one.contraction, rtol=1e-6)


def test_intervals_go_through_transforms_and_keep_units():
    fitter = decay()
    fitter.fit(DECAY, n_steps=100)
    found = fitter.identify(DECAY)
    a, tau = (found.estimates[name] for name in ("a", "tau"))
    model = fitter.model
    mean = a.value.to_decimal(u.mV) * np.exp(-TIME / tau.value.to_decimal(u.second))
    value = tau.value.to_decimal(u.second)
    # log a, logit of tau in (0.1, 5)
    slope = (value - 0.1) * (5.0 - value) / 4.9
    jacobian = np.stack([mean, mean * TIME / value**2 * slope], axis=1) / 0.05
    expected = np.linalg.inv(jacobian.T @ jacobian)
    np.testing.assert_allclose(fitter.identify(DECAY, method="gauss_newton").covariance, expected, rtol=1e-8)
    # the observed information differs by the residuals
    np.testing.assert_allclose(found.covariance, expected, rtol=0.2)
    sd = found.sd
    assert a.lower.unit == u.mV and tau.upper.unit == u.second
    np.testing.assert_allclose(
        a.upper.to_decimal(u.mV), a.value.to_decimal(u.mV) * np.exp(Z90 * sd[0]), rtol=1e-9
    )
    logit = np.log((value - 0.1) / (5.0 - value)) - Z90 * sd[1]
    np.testing.assert_allclose(tau.lower.to_decimal(u.second), 0.1 + 4.9 / (1 + np.exp(-logit)), rtol=1e-9)
    np.testing.assert_allclose(a.sd.to_decimal(u.mV), a.value.to_decimal(u.mV) * sd[0], rtol=1e-9)
    np.testing.assert_allclose(a.relative_error, sd[0], rtol=1e-9)
    np.testing.assert_allclose(tau.relative_error, sd[1] * np.sqrt(3.0) / np.pi, rtol=1e-9)
    scales = natural_scales(Trainable(model), found.theta)
    np.testing.assert_allclose(scales, [1.0, np.pi / np.sqrt(3.0)], rtol=1e-9)


@pytest.mark.parametrize(
    ("objective", "of_residuals"),
    [
        (objectives.timeseries_rmse(), lambda off: np.sqrt(np.mean(off**2))),
        (lambda a, b: jnp.sum(jnp.log(jnp.cosh((a - b) / u.mV))), lambda off: np.sum(np.log(np.cosh(off)))),
    ],
)
def test_curvature_is_that_of_numerical_differentiation(objective, of_residuals):
    from scipy.differentiate import hessian

    fitter = decay(objective)
    found = fitter.identify(DECAY, errors=np.eye(2))

    def loss(x):
        a, tau = np.exp(x[0]), 0.1 + 4.9 / (1.0 + np.exp(-x[1]))
        return of_residuals(a * np.exp(-TIME / tau) - np.asarray(DECAY.mantissa)[:, 0])

    def every(x):
        return np.array([loss(one) for one in x.reshape(2, -1).T]).reshape(x.shape[1:])

    expected = hessian(every, found.theta, tolerances={"rtol": 1e-9}).ddf
    # scipy says that it is good to about 1e-7 here
    np.testing.assert_allclose(found.information, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


def test_a_product_is_identified_where_its_factors_are_not():
    a, b = P.positive(2.0), P.positive(3.0)
    model = Model(a=a, b=b, product=P.tied((a, b), lambda x, y: x * y))
    x = np.linspace(0.0, 1.0, 20)[:, None]
    fitter = Fitter(
        model,
        predict=lambda one: one.product.value() * x,
        objective=objectives.gaussian(NOISE),
        backend="scipy",
    )
    target = 6.0 * x
    found = fitter.identify(target)
    assert found.spectrum.n_flat == 1 and np.isinf(found.spectrum.condition)
    np.testing.assert_allclose(np.abs(found.spectrum.vector[1]), np.sqrt(0.5), rtol=1e-9)
    assert np.isinf(found.sd).all() and list(map(str, (found.identified("a"), found.identified("b")))) == [
        "no",
        "no",
    ]
    assert found.estimates["a"].lower == 0.0 and np.isinf(found.estimates["a"].upper)
    error = NOISE / np.sqrt(np.sum(x**2))
    np.testing.assert_allclose(found.estimates["product"].sd, error, rtol=1e-6)
    # its interval keeps it positive: symmetric in the logarithm would need a limit, which a tie of two has not
    np.testing.assert_allclose(found.estimates["product"].upper, 6.0 + Z90 * error, rtol=1e-6)
    assert str(found.identified("product")) == "yes"
    assert "The data do not change along 0.71 a - 0.71 b" in found.summary()
    # a prior of one e-fold of each: the sum of logarithms is known, the difference is that of the prior
    held = fitter.identify(target, prior_sd={"a": 1.0, "b": 1.0})
    np.testing.assert_allclose(held.sd, np.sqrt(0.5), rtol=2e-3)  # up to the error of the product, 0.02 here
    np.testing.assert_allclose(held.estimates["a"].contraction, 1.0 - np.sqrt(0.5), rtol=1e-2)
    assert held.correlation[0, 1] < -0.99 and held.trade_offs()[0][:2] == ("a", "b")
    assert "a and b trade off" in held.summary()


def test_maps_groups_and_edges_have_intervals_of_their_own():
    maps = np.arange(4.0) - 1.5
    model = Model(
        field=P.from_maps(maps, 0.5, 0.2, u.Hz, t="positive"),
        group=P.grouped(["V", "D", "V"], 1.0, t="positive"),
        weights=P.edges(np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])),
    )

    def predict(one):
        parts = (one.field.value().to_decimal(u.Hz), one.group.value(), one.weights.value().ravel())
        return jnp.concatenate(parts)[:, None]

    sd = 0.1
    fitter = Fitter(model, predict=predict, objective=objectives.gaussian(sd), backend="scipy")
    found = fitter.identify(predict(model))
    field = found.estimates["field"]
    # the logarithm of the field is linear in bias and coefficient, so its interval is exact
    y = field.value.to_decimal(u.Hz)
    design = np.stack([np.ones(4), maps], axis=1)
    covariance = np.linalg.inv((design * (y / sd)[:, None] ** 2).T @ design)
    spread = np.sqrt(np.einsum("ei,ij,ej->e", design, covariance, design))
    np.testing.assert_allclose(field.upper.to_decimal(u.Hz), y * np.exp(Z90 * spread), rtol=1e-6)
    group = found.estimates["group"]
    np.testing.assert_allclose(group.sd, [sd / np.sqrt(2), sd, sd / np.sqrt(2)], rtol=1e-9)
    np.testing.assert_allclose(group.lower[1], np.exp(-Z90 * sd), rtol=1e-9)
    edges = found.estimates["weights"]
    np.testing.assert_allclose(edges.sd, sd * (np.asarray(edges.value) > 0.0), rtol=1e-9)
    np.testing.assert_allclose(edges.upper[2, 1], 3.0 * np.exp(Z90 * sd / 3.0), rtol=1e-9)
    words = found.identified("weights")
    assert words[2, 1] == "yes" and words[0, 0] == "" and np.asarray(edges.upper)[0, 0] == 0.0
    assert edges.labels[7] == "weights[2,1]" and found.coefficients[-1] == "weights.values[2]"


def test_a_saddle_is_told():
    model = Model(x=brainstate.nn.Param(jnp.array([0.0, 1.0])))
    fitter = Fitter(model, loss_fn=lambda one: one.x.value()[1] ** 2 - one.x.value()[0] ** 2)
    found = fitter.identify(errors="likelihood")
    assert found.negative == -1.0
    assert np.isinf(found.sd[0]) and np.isclose(found.sd[1], np.sqrt(0.5))
    assert "not a minimum" in found.summary() and "has not converged" in found.summary()
    np.testing.assert_allclose(found.step[1], -1.0 / np.sqrt(0.5))


def test_replicates_give_the_errors_of_a_loss_that_is_no_likelihood():
    # mean squared error without weights of noise that is not the same everywhere: White's errors
    spread = NOISE * np.linspace(0.2, 2.0, 50)[:, None]
    mse = lambda a, b: jnp.mean((a - b) ** 2)  # noqa: E731
    model = Model(b=brainstate.nn.Param(jnp.array([1.0, 2.0, -1.0])))
    fitter = Fitter(model, predict=lambda one: (DESIGN @ one.b.value())[:, None], objective=mse)
    target = DESIGN @ np.array([[1.0], [2.0], [-1.0]])
    inverse = np.linalg.inv(DESIGN.T @ DESIGN)
    exact = inverse @ (DESIGN * spread**2).T @ DESIGN @ inverse
    gradient = 4.0 / 50**2 * (DESIGN * spread**2).T @ DESIGN
    np.testing.assert_allclose(fitter.identify(target, errors=gradient).covariance, exact, rtol=1e-9)
    replicates = [target + spread * np.random.default_rng(k).normal(size=(50, 1)) for k in range(400)]
    found = fitter.identify(target, replicates=replicates)
    # a standard deviation from 400 draws is known to 1 / sqrt(800) = 3.5 %
    np.testing.assert_allclose(found.sd, np.sqrt(np.diag(exact)), rtol=0.12)
    halves = fitter.identify(target, replicates=replicates, share=0.5)
    np.testing.assert_allclose(halves.covariance, 0.5 * found.covariance, rtol=1e-9)
    assert found.errors == "replicates" and "400 replicates" in found.summary()


def test_replicates_can_be_drawn_from_the_model():
    mse = lambda a, b: jnp.mean((a - b) ** 2)  # noqa: E731
    model = Model(b=brainstate.nn.Param(jnp.array([1.0, 2.0, -1.0])))

    def predict(one):
        return (DESIGN @ one.b.value())[:, None] + NOISE * brainstate.random.randn(50, 1)

    fitter = Fitter(model, predict=predict, objective=mse)
    target = predict(model)
    found = fitter.identify(target, n_replicates=400, key=jax.random.key(3))
    exact = NOISE**2 * np.linalg.inv(DESIGN.T @ DESIGN)
    np.testing.assert_allclose(found.sd, np.sqrt(np.diag(exact)), rtol=0.12)
    # a prior that the loss does not hold joins as independent knowledge
    held = fitter.identify(target, n_replicates=400, key=jax.random.key(3), prior_sd=0.05)
    joined = np.linalg.inv(np.linalg.inv(found.covariance) + np.eye(3) / 0.05**2)
    np.testing.assert_allclose(held.covariance, joined, rtol=1e-6)


def test_seed_variance_is_that_of_refits():
    model = Model(rate=P.positive(1.0))

    def predict(one):
        return one.rate.value() * (1.0 + 0.1 * brainstate.random.randn(30, 1))

    fitter = Fitter(model, predict=predict, objective=objectives.gaussian(0.2), backend="scipy")
    target = 2.0 + 0.2 * np.random.default_rng(5).normal(size=(30, 1))
    estimates = []
    for k in range(40):
        model.rate.set_value(2.0)
        fitter.fit(target, n_steps=30, key=jax.random.key(100 + k))
        estimates.append(float(np.log(model.rate.value())))
    found = fitter.identify(target, n_seeds=200, key=jax.random.key(1))
    # 40 refits give a standard deviation to 11 %, 200 gradients to 5 %
    np.testing.assert_allclose(np.sqrt(found.seeds[0, 0]), np.std(estimates, ddof=1), rtol=0.35)
    assert found.errors == "likelihood" and "Noise seeds move estimates" in found.summary()
    # the noise is that of the last fit, so the model is at its optimum
    assert np.abs(found.step).max() < 0.05
    model.rate.set_value(2.0)
    several = fitter.fit(target, n_steps=30, key=jax.random.key(7), n_realisations=8)
    averaged = fitter.identify(target, result=several, n_seeds=200, key=jax.random.key(1))
    assert np.abs(averaged.step).max() < 0.05
    np.testing.assert_allclose(averaged.seeds, found.seeds / 8.0, rtol=0.3)

    def information(seeds):
        return fitter.identify(target, result=SimpleNamespace(seeds=seeds), method="gauss_newton").information

    first, second = several.seeds[:2]
    np.testing.assert_allclose(
        information([first, second]), 0.5 * (information([first]) + information([second])), rtol=1e-9
    )


def test_expected_information_of_every_likelihood():
    """Against the mean of the exact Hessian over data of the model: linear in the data, so that of their mean."""
    mix = np.random.default_rng(2).normal(size=(4, 4))
    basis = jnp.asarray(mix @ mix.T)
    model = Model(s=P.positive(np.array([0.5, 1.0, 1.5, 2.0])), k=P.positive(0.3))

    def covariance(one):
        return jnp.diag(one.s.value()) + one.k.value() * basis

    def spectra(one):
        skew = 1j * jnp.triu(jnp.ones((4, 4)), 1)
        ramp = jnp.array([1.0, 2.0, 4.0])[:, None, None]
        return (covariance(one) + 0.1 * one.k.value() * (skew + jnp.conj(skew.T))) / ramp

    hz = np.array([1.0, 2.0, 3.0])
    both = objectives.combine(
        (1.0, objectives.on("c", objectives.wishart())), (1.0, objectives.on("f", objectives.cross_spectra()))
    )
    exact = {
        "c": objectives.Covariance(np.asarray(covariance(model)), 40.0),
        "f": objectives.CSD(hz, np.asarray(spectra(model)), np.array([5.0, 6.0, 7.0])),
    }
    predict = lambda one: {  # noqa: E731
        "c": objectives.Covariance(covariance(one)),
        "f": objectives.CSD(hz, spectra(one)),
    }
    fitter = Fitter(model, predict=predict, objective=both)
    fisher = fitter.identify(exact, method="gauss_newton").information
    hessian = fitter.identify(exact).information
    np.testing.assert_allclose(fisher, hessian, rtol=1e-6, atol=1e-8 * np.abs(fisher).max())
    # normal data whose noise is fitted: n / sd^2 and 2 n / sd^2
    normal = Model(m=brainstate.nn.Param(jnp.asarray(1.0)), sd=brainstate.nn.Param(jnp.asarray(0.5)))
    fitter = Fitter(
        normal,
        predict=lambda one: objectives.Normal(
            one.m.value() * jnp.ones((20, 1)) * u.mV, one.sd.value() * u.mV
        ),
        objective=objectives.gaussian(),
    )
    fisher = fitter.identify(np.zeros((20, 1)) * u.mV, method="gauss_newton").information
    np.testing.assert_allclose(fisher, np.diag([80.0, 160.0]), rtol=1e-9)


def test_gauss_newton_of_any_objective_leaves_out_the_curvature_of_the_model():
    weights = np.linspace(1.0, 3.0, 40)[:, None]
    fitter = decay(lambda a, b: jnp.sum(weights * ((a - b).to_decimal(u.mV)) ** 2))
    found = fitter.identify(DECAY, method="gauss_newton", errors="likelihood")
    tau = float(fitter.model.tau.value().to_decimal(u.second))
    mean = 1.5 * np.exp(-TIME / tau)
    jacobian = np.stack([mean, mean * TIME / tau**2 * (tau - 0.1) * (5.0 - tau) / 4.9], axis=1)
    np.testing.assert_allclose(found.information, 2.0 * (jacobian * weights).T @ jacobian, rtol=1e-8)


def test_a_loss_without_forward_derivatives_takes_differences():
    """A solver outside of jax, with its gradient."""
    shape = jax.ShapeDtypeStruct((2,), float)

    @jax.custom_vjp
    def cube(x):
        return jax.pure_callback(lambda v: np.asarray(v) ** 3, shape, x, vmap_method="sequential")

    def slope(x):
        return jax.pure_callback(lambda v: 3.0 * np.asarray(v) ** 2, shape, x, vmap_method="sequential")

    cube.defvjp(lambda x: (cube(x), x), lambda x, g: (slope(x) * g,))
    model = Model(x=brainstate.nn.Param(jnp.array([1.0, 2.0])))
    fitter = Fitter(model, loss_fn=lambda one: jnp.sum(cube(one.x.value())))
    found = fitter.identify(errors="likelihood")
    np.testing.assert_allclose(found.information, np.diag([6.0, 12.0]), rtol=1e-7, atol=1e-8)
    assert "central differences" in found.summary()


def test_single_precision():
    model = Model(b=brainstate.nn.Param(jnp.zeros(3, jnp.float32)))
    design, data = jnp.asarray(DESIGN, jnp.float32), jnp.asarray(DATA, jnp.float32)
    fitter = Fitter(
        model,
        predict=lambda one: (design @ one.b.value())[:, None],
        objective=objectives.gaussian(NOISE),
        backend="scipy",
    )
    fitter.fit(data)
    found = fitter.identify(data)
    exact = NOISE**2 * np.linalg.inv(DESIGN.T @ DESIGN)
    np.testing.assert_allclose(found.covariance, exact, rtol=1e-4, atol=1e-8)
    assert found.negative == 0.0 and found.spectrum.n_flat == 0


def test_a_network_field_is_labelled_and_stored(tmp_path):
    n = 3
    prior = P.Gaussian(-0.2 * u.kHz, 0.1 * u.kHz)
    node = brainloom.HopfStep(n, a=P.field(-0.2, n, "kHz", t=(-1.0, 0.0), prior=prior), w=1.0)
    net = brainloom.Network(node, conn=np.ones((n, n)) - np.eye(n), k=P.positive(0.1), coupling="diffusive")

    def predict(one):
        return jnp.concatenate([one.node.a.value().to_decimal(u.kHz)[:2], one.k.value()[None]])[:, None]

    fitter = Fitter(net, predict=predict, objective=objectives.gaussian(0.01))
    found = fitter.identify(np.array([[-0.2], [-0.2], [0.1]]), regions=["V1", "V2", "M1"])
    assert found.coefficients == ["k", "node.a[V1]", "node.a[V2]", "node.a[M1]"]
    assert list(found.identified("node.a")) == ["yes", "yes", "no"] and str(found.identified("k")) == "yes"
    np.testing.assert_allclose(found.estimates["node.a"].contraction[2], 0.0, atol=1e-9)
    path, again = tmp_path / "one.zarr.zip", tmp_path / "two.zarr.zip"
    found.save(path)
    fitter.identify(np.array([[-0.2], [-0.2], [0.1]]), regions=["V1", "V2", "M1"]).save(again)
    assert path.read_bytes() == again.read_bytes()
    loaded = Identification.load(path)
    assert loaded.summary() == found.summary()
    assert loaded.to_xarray().identical(found.to_xarray())
    assert loaded.estimates["node.a"].value.unit == found.estimates["node.a"].value.unit
    ds = found.to_xarray()
    assert list(ds["entry"].values) == found.coefficients and ds["eigenvector"].dims == (
        "direction",
        "coefficient",
    )
    assert all("long_name" in variable.attrs for variable in ds.data_vars.values())
    from brainloom.store import write_dataset

    write_dataset(path, ds.assign_attrs(format="another"))
    with pytest.raises(StoreError, match="is not a saved identification"):
        Identification.load(path)


def test_refusals_say_what_is_missing():
    rmse, likely = decay(objectives.timeseries_rmse()), decay()
    own = Fitter(Model(x=brainstate.nn.Param(jnp.asarray(0.0))), loss_fn=lambda one: one.x.value() ** 2)
    zero = DECAY
    cases = [
        (lambda: rmse.identify(zero), "timeseries_rmse.* is no likelihood, so errors need more"),
        (lambda: rmse.identify(zero, errors="likelihood"), "its curvature says nothing of errors"),
        (lambda: rmse.identify(zero, errors="replicates"), "need replicates: give"),
        (
            lambda: rmse.identify(zero, n_replicates=10),
            "draws nothing from brainstate.random, so no replicates",
        ),
        (lambda: rmse.identify(zero, replicates=[zero]), "there is 1 replicate"),
        (lambda: rmse.identify(zero, errors=np.eye(3)), r"errors has shape \(3, 3\)"),
        (lambda: own.identify(), "may be any function.*errors='likelihood' if it is"),
        (lambda: own.identify(n_replicates=5), "a loss_fn holds its own data"),
        (lambda: own.identify(errors="likelihood", method="gauss_newton"), "needs predict and objective"),
        (
            lambda: likely.identify(zero, prior_sd={"b": 1.0}),
            "prior_sd names b; the fitted parameters are a, tau",
        ),
        (lambda: likely.identify(zero, prior_sd=-1.0), "prior_sd of a is -1.0; it must be positive"),
        (lambda: likely.identify(zero, n_seeds=5), "so it has no seeds"),
        (lambda: likely.identify(zero, method="newton"), "method is 'newton'"),
        (lambda: likely.identify(zero, level=90), "level is 90"),
    ]
    for call, message in cases:
        with pytest.raises((IdentifyError, ValueError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    correlated = Fitter(likely.model, predict=likely.predict, objective=objectives.wishart(correlation=True))
    with pytest.raises(IdentifyError, match="is no likelihood"):
        correlated.identify(zero)
    prior = line(reg=P.Gaussian(0.0, 1.0))
    with pytest.raises(IdentifyError, match="b has a prior in the loss; leave it out"):
        prior.identify(DATA, prior_sd={"b": 1.0})


def test_a_value_of_zero_without_a_prior_is_not_judged():
    model = Model(x=brainstate.nn.Param(jnp.asarray(0.0)))
    found = Fitter(model, loss_fn=lambda one: one.x.value() ** 2).identify(errors="likelihood")
    assert str(found.identified("x")) == "" and "give prior_sd" in found.summary()


def test_ordered_values_have_intervals_of_their_own():
    """Thresholds 1, 2, 4 through gaps: three numbers seen directly, each to 0.1, whatever they are made of."""
    model = Model(
        order=P.ordered(np.array([1.0, 2.0, 4.0])),
        doubled=brainstate.nn.Param(jnp.array([1.0, 3.0]), precompute=lambda x: jnp.cumsum(x)),
    )
    sd = 0.1
    fitter = Fitter(
        model,
        predict=lambda one: jnp.concatenate([one.order.value(), one.doubled.value()])[:, None],
        objective=objectives.gaussian(sd),
    )
    found = fitter.identify(np.array([[1.0], [2.0], [4.0], [1.0], [4.0]]))
    for name in ("order", "doubled"):
        one = found.estimates[name]
        np.testing.assert_allclose(one.sd, sd, rtol=1e-9)
        np.testing.assert_allclose(one.upper - one.value, Z90 * sd, rtol=1e-9)
    np.testing.assert_allclose(found.estimates["doubled"].value, [1.0, 4.0])
