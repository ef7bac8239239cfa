"""A network with a parameter of every kind, and the signals of a run of it as a function of all of them."""

from __future__ import annotations

from functools import cache

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import WilsonCowanStep

# isort: split
import brainstate
import brainunit as u
import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from objective_cases import DT, N_REGION, N_TIME

from brainloom.coupling import Coupling
from brainloom.fit import parameters as P
from brainloom.fit.evaluate import Loss
from brainloom.fit.trainable import Trainable
from brainloom.network import Network
from brainloom.observe import BOLD
from brainloom.simulate import Simulator

# ms; 2,400 steps give as many samples as the cases of objectives have.
STEP_MS, SAMPLE = 1e3 * DT / 8, 8
RNG = np.random.default_rng(11)
N = N_REGION
OFF = ~np.eye(N, dtype=bool)
SPARSE = np.where(RNG.uniform(size=(N, N)) < 0.6, RNG.uniform(0.3, 0.9, (N, N)), 0.0) * OFF
DENSE = RNG.uniform(0.2, 0.6, (N, N))
DENSE = (DENSE + DENSE.T) * OFF
MAPS = {"gradient": np.linspace(-1, 1, N), "myelin": RNG.normal(size=N)}
# Delays of 4 to 9 steps, a fifth of a step and more away from whole ones, at 10 mm/ms: the interpolant has kinks there.
DISTANCE = 10.0 * STEP_MS * (RNG.integers(4, 9, (N, N)) + RNG.uniform(0.25, 0.75, (N, N)))

# What is fitted, and the parameters of the model that it is the kind of.
KINDS = {
    "global, log": ("net.edge_k",),
    "global, interval": ("net.all_k",),
    "global, any value, scaled": ("net.node.theta_i",),
    "field, interval": ("net.node.theta_e",),
    "field, ordered": ("net.node.a_e",),
    "field of initial states": ("net.node.init_E",),
    "field of noise amplitudes, softplus": ("net.node.noise_E",),
    "weights of existing edges": ("net.edge.weights.values",),
    "symmetric weights of all edges": ("net.all.weights.values",),
    "conduction speed": ("net.edge_speed",),
    "distances": ("net.edge_distance",),
    "maps under a transform": ("net.node.P.bias", "net.node.P.coefficients"),
    "maps": ("net.node.Q.bias", "net.node.Q.coefficients"),
    "groups with a unit": ("net.node.tau_e.values",),
    "one factor of two parameters": ("net.node.tau_i.source",),
    "a function of two parameters": ("net.node.r_e.source_0", "net.node.r_e.source_1"),
}
OBSERVER_KINDS = {
    "gain of an observer": ("bold_gain",),
    "field of an observer": ("tau",),
    "shape of an observer": ("alpha",),
}


class Observed(brainstate.nn.Module):
    """A network and its observer."""

    def __init__(self):
        super().__init__()
        both = P.positive(1.1, prior=P.Gaussian(1.0, 0.5))
        node = WilsonCowanStep(
            N,
            theta_e=P.field(2.8 + 0.1 * RNG.normal(size=N), N, t=(0.0, 10.0)),
            theta_i=P.free(4.0, scale=0.5),
            a_e=P.ordered([0.9, 1.1, 1.2, 1.4]),
            P=P.from_maps(MAPS, 1.3, [0.1, -0.05], t="softplus", prior=P.Smooth(DENSE)),
            Q=P.from_maps(MAPS["myelin"], 0.1, 0.05, prior=P.Homotopic([0, 1], [3, 2])),
            tau_e=P.grouped("LRLR", [10.0, 12.0], u.ms, t="log"),
            tau_i=P.tied(both, factor=9.0 * u.ms),
            w_ee=P.tied(both, factor=np.linspace(10.0, 12.0, N)),
            r_e=P.tied((P.softplus(0.5), P.interval(0.5, 0.1, 0.9)), lambda a, b: a + b * b),
            init_E=P.field(np.linspace(0.05, 0.3, N), N),
            noise_E=P.field(np.linspace(0.02, 0.03, N), N, t="softplus"),
        )
        edge = Coupling(
            "additive",
            conn=P.edges(SPARSE, prior=P.Sparse(0.1)),
            k=P.positive(0.4),
            name="edge",
            distance=P.interval(DISTANCE, 5.0, 400.0),
            speed=P.interval(10.0, 8.0, 12.5),
        )
        dense = P.edges(DENSE, existing=False, symmetric=True, t="softplus")
        every = Coupling("diffusive", conn=dense, k=P.interval(0.2, 0.0, 1.0), name="all")
        self.net = Network(node, couplings=[edge, every])
        self.bold = BOLD(
            1e3 * DT * u.ms,
            source="E",
            bold_gain=P.positive(20.0),
            bold_baseline=np.array([0.51, 0.52, 0.56, 0.55]),
            tau=P.field(np.linspace(0.8, 1.1, N), N, t="log"),
            alpha=P.interval(0.3, 0.1, 0.6),
        )

    def run(self):
        """Signals by name, (time, region)."""
        found = Simulator(self.net, STEP_MS * u.ms, method="stochastic_heun").run(
            N_TIME * SAMPLE * STEP_MS * u.ms,
            monitors="E",
            observe=[self.bold],
            sample_every=SAMPLE,
            key=jax.random.key(3),
        )
        return {"E": found["E"], "bold": found["bold"]}


class Solve:
    """
    Signals of the run near the start of all parameters, as a fit sees them, and their derivatives.

    Three programs for all objectives: runs at points along a direction for each kind of parameter, and the pullback of
    any number of gradients of objectives.
    """

    def __init__(self, step):
        model = Observed()
        trainable = Trainable(model)
        self.step, self.names = step, list(trainable.states)
        loss = Loss(model, trainable, lambda _: (model.reg_loss(), model.run()))
        self.flat, back = ravel_pytree(trainable.leaves())
        rng = np.random.default_rng(0)
        sizes = {name: leaf.size for name, leaf in zip(self.names, back(self.flat), strict=True)}
        self.kinds = {
            **KINDS,
            **{kind: tuple(f"bold.{x}" for x in own) for kind, own in OBSERVER_KINDS.items()},
        }
        masks = [
            np.concatenate([np.full(size, name in own) for name, size in sizes.items()])
            for own in self.kinds.values()
        ]
        self.directions = np.stack([mask * rng.normal(size=len(mask)) for mask in masks])
        self._run = lambda x: loss(back(x), loss.fixed)
        moves = [c * step * self.directions for c in (1, -1, 2, -2)]
        points = np.concatenate([np.zeros((1, self.flat.size)), *moves]) + np.asarray(self.flat)
        self.priors, self.signals = jax.tree.map(np.asarray, jax.jit(jax.vmap(self._run))(points))

    def differences(self, values):
        """Derivatives along the directions from the values at all points, by Richardson's rule."""
        near, near_below, far, far_below = np.reshape(values[1:], (4, -1))
        return (8 * (near - near_below) - (far - far_below)) / (12 * self.step)

    def pulled_back(self, slopes):
        """
        Gradients in all parameters, (row, parameter).

        Parameters
        ----------
        slopes : dict of (row, time, region) arrays
            Gradients in the signals. A last row is added for the priors.
        """

        def one(x, cotangent):
            return jax.vjp(self._run, x)[1](cotangent)[0]

        rows = {key: np.concatenate([part, 0 * part[:1]]) for key, part in slopes.items()}
        last = np.arange(len(next(iter(rows.values())))) + 1.0 == len(next(iter(rows.values())))
        return np.asarray(jax.jit(jax.vmap(one, in_axes=(None, 0)))(self.flat, (last.astype(float), rows)))


@cache
def solve(step=2e-4):
    """The solve, made once."""
    return Solve(step)
