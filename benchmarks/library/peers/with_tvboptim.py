"""The works in tvboptim: `prepare`, its own models, couplings and solvers with their defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import timing
from fc import fc_loss
from tvboptim.experimental.network_dynamics import DenseGraph, DenseLengthGraph, Network, prepare
from tvboptim.experimental.network_dynamics.coupling.linear import DelayedLinearCoupling, DifferenceCoupling
from tvboptim.experimental.network_dynamics.dynamics.tvb.montbrio_pazo_roxin import MontbrioPazoRoxin
from tvboptim.experimental.network_dynamics.dynamics.tvb.sup_hopf import SupHopf
from tvboptim.experimental.network_dynamics.noise.gaussian import AdditiveNoise
from tvboptim.experimental.network_dynamics.solvers.native import Euler, Heun


class BothDifferences(DifferenceCoupling):
    """For two states that each drive their own input."""

    N_OUTPUT_STATES = 2


class BothDelayed(DelayedLinearCoupling):
    """For two states that each drive their own input."""

    N_OUTPUT_STATES = 2


def _prepared(work: Any) -> tuple[Callable[[Any, Any, Any], Any], Any, Any]:
    between = BothDifferences(incoming_states=["x", "y"], local_states=["x", "y"], G=1.0)
    a, k = jnp.asarray(work.a, jnp.float32), jnp.asarray(work.k, jnp.float32)
    net = Network(
        SupHopf(a=a[0] if a.ndim == 2 else a, omega=jnp.asarray(work.w, jnp.float32)),
        {"delayed": between},
        DenseGraph(jnp.asarray(work.weights, jnp.float32)),
        noise=AdditiveNoise(sigma=work.sigma),
    )
    solve, config = prepare(net, Euler(), t0=0.0, t1=work.n_steps * work.dt, dt=work.dt)

    def one(a: Any, k: Any) -> Any:
        changed = jax.tree.map(lambda x: x, config)
        changed.dynamics.a, changed.coupling.delayed.G = a, k
        return solve(changed).ys[work.keep - 1 :: work.keep, 0]

    return one, a, k


def hopf(work: Any) -> Callable[[], Any]:
    one, a, k = _prepared(work)
    run = jax.jit(jax.vmap(one) if a.ndim == 2 else one)
    return lambda: jax.block_until_ready(run(a, k))


def gradient(work: Any) -> Callable[[], Any]:
    one, a, k = _prepared(work)
    target = jnp.asarray(work.target, jnp.float32)
    run = jax.jit(jax.value_and_grad(lambda p: fc_loss(one(*p), target)))
    return lambda: jax.block_until_ready(run((a, k)))


def mpr(work: Any) -> Callable[[], Any]:
    model = MontbrioPazoRoxin(
        tau=work.tau, I=work.current, Delta=work.delta, J=work.j, eta=work.eta, cr=work.tau, cv=0.0
    )
    between = BothDelayed(incoming_states=["r", "V"], G=work.k, history_interpolation="linear")
    weights, lengths = (jnp.asarray(x, jnp.float32) for x in (work.weights, work.lengths))
    net = Network(model, {"delayed": between}, DenseLengthGraph(weights, lengths, work.speed))
    scheme = Heun(recompute_coupling_per_stage=True)
    solve, config = prepare(net, scheme, t0=0.0, t1=work.n_steps * work.dt, dt=work.dt)
    run = jax.jit(lambda c: solve(c).ys[work.keep - 1 :: work.keep, 0])
    return lambda: jax.block_until_ready(run(config))


if __name__ == "__main__":
    simple = "prepare, SupHopf, DifferenceCoupling, AdditiveNoise, Euler, defaults, inside jit; the same noise each run"
    delayed = "prepare, MontbrioPazoRoxin, DelayedLinearCoupling with linear interpolation, Heun with coupling at each stage; r and V delayed"
    timing.main(
        "tvboptim",
        {"W1": hopf, "W2": mpr, "W2-400": mpr, "W4a": gradient, "W5": hopf},
        {
            "W1": simple,
            "W4a": simple,
            "W5": simple + " and vmap, noise shared by the sets",
            "W2": delayed,
            "W2-400": delayed,
        },
        {},
    )
