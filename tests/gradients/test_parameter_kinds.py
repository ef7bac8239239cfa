"""
Gradients in every kind of parameter through 2,000 steps of a network, against finite differences in float64.

Differences are ``(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h`` with h of 1e-3 in unconstrained space, where values
are of order 1: the formula is off by h^4 of the fifth derivative, about 1e-12, and by the rounding of f over h, about
1e-12. 1e-6 of the largest entry is loose for a right gradient and tight for a wrong one.
"""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import WilsonCowanStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from brainloom.coupling import Coupling
from brainloom.fit import parameters as P
from brainloom.fit.evaluate import Loss
from brainloom.fit.trainable import Trainable
from brainloom.network import Network
from brainloom.simulate import Simulator

N, STEPS, DT, STEP, RTOL = 4, 2000, 0.5, 1e-3, 1e-6
RNG = np.random.default_rng(11)
OFF = ~np.eye(N, dtype=bool)
SPARSE = np.where(RNG.uniform(size=(N, N)) < 0.6, RNG.uniform(0.3, 0.9, (N, N)), 0.0) * OFF
DENSE = RNG.uniform(0.2, 0.6, (N, N))
DENSE = (DENSE + DENSE.T) * OFF
MAPS = {"gradient": np.linspace(-1, 1, N), "myelin": RNG.normal(size=N)}
MEASURE = jnp.asarray(RNG.normal(size=(STEPS // 50, N)))

# What is fitted, and the parameters of the model that it is the kind of.
KINDS = {
    "global, log": ("edge_k",),
    "global, interval": ("all_k",),
    "global, any value, scaled": ("node.theta_i",),
    "field, interval": ("node.theta_e",),
    "field, ordered": ("node.a_e",),
    "weights of existing edges": ("edge.weights.values",),
    "symmetric weights of all edges": ("all.weights.values",),
    "maps under a transform": ("node.P.bias", "node.P.coefficients"),
    "maps": ("node.Q.bias", "node.Q.coefficients"),
    "groups with a unit": ("node.tau_e.values",),
    "one factor of two parameters": ("node.tau_i.source",),
    "a function of two parameters": ("node.r_e.source_0", "node.r_e.source_1"),
}


@pytest.fixture(scope="module")
def gradients():
    """The gradient of a measure of the run in all parameters at once, and its differences: two programs."""
    both = P.positive(1.1, prior=P.Gaussian(1.0, 0.5))
    node = WilsonCowanStep(
        N,
        theta_e=P.field(2.8 + 0.1 * RNG.normal(size=N), N, t=(0.0, 10.0)),
        theta_i=P.free(4.0, scale=0.5),
        a_e=P.ordered([0.9, 1.1, 1.2, 1.4]),
        P=P.from_maps(MAPS, 1.3, [0.1, -0.05], t="softplus", prior=P.Smooth(DENSE)),
        Q=P.from_maps(MAPS["myelin"], 0.1, 0.05),
        tau_e=P.grouped("LRLR", [10.0, 12.0], u.ms, t="log"),
        tau_i=P.tied(both, factor=9.0 * u.ms),
        w_ee=P.tied(both, factor=np.linspace(10.0, 12.0, N)),
        r_e=P.tied((P.softplus(0.5), P.interval(0.5, 0.1, 0.9)), lambda a, b: a + b * b),
        init_E=np.linspace(0.05, 0.3, N),
    )
    edge = Coupling("additive", conn=P.edges(SPARSE), k=P.positive(0.4), name="edge")
    dense = P.edges(DENSE, existing=False, symmetric=True, t="softplus")
    every = Coupling("diffusive", conn=dense, k=P.interval(0.2, 0.0, 1.0), name="all")
    network = Network(node, couplings=[edge, every])

    def measured(model):
        run = Simulator(model, DT, method="heun").run(STEPS * DT, monitors="E", sample_every=50)
        return jnp.sum(MEASURE * run["E"]) + 0.1 * model.reg_loss()

    trainable = Trainable(network)
    loss = Loss(network, trainable, lambda _: measured(network))
    flat, back = ravel_pytree(trainable.leaves())
    found = jax.jit(jax.grad(lambda x: loss(back(x), loss.fixed)[0]))(flat)
    moves = jnp.concatenate([c * STEP * jnp.eye(len(flat)) for c in (1, -1, 2, -2)])
    f = jax.jit(jax.vmap(lambda move: loss(back(flat + move), loss.fixed)[0]))(moves).reshape(4, -1)
    expected = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)
    names = list(trainable.states)
    return dict(zip(names, zip(back(found), back(expected), strict=True), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_parameter(gradients, kind):
    for name in KINDS[kind]:
        found, expected = (np.asarray(x) for x in gradients[name])
        size = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=RTOL * size, err_msg=name)
        assert size > 1e-3  # it matters for the run


def test_nothing_else_is_fitted_and_every_kind_is_here(gradients):
    assert set(gradients) == {name for names in KINDS.values() for name in names}
