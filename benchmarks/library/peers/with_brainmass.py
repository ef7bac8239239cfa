"""The works in brainmass as its documentation does them: `Network` and `Simulator.run`, gradients by brainstate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainmass
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import timing
from fc import fc_loss


def _network(work: Any, a: Any, k: Any) -> Any:
    brainstate.environ.set(dt=work.dt * u.ms)
    constant, n = braintools.init.Constant, work.n_regions
    sigma = work.sigma / work.dt**0.5  # drawn anew every step and multiplied by dt
    node = brainmass.HopfStep(
        n,
        a=a,
        w=jnp.asarray(work.w, jnp.float32),
        beta=work.beta,
        noise_x=brainmass.GaussianNoise(n, sigma=sigma),
        noise_y=brainmass.GaussianNoise(n, sigma=sigma),
        init_x=constant(work.x0),
        init_y=constant(work.y0),
    )
    return brainmass.Network(node, conn=jnp.asarray(work.weights, jnp.float32), coupled_var="x", k=k)


def hopf(work: Any) -> Callable[[], Any]:
    net = _network(work, jnp.asarray(work.a, jnp.float32), float(work.k))
    simulator = brainmass.Simulator(net, dt=work.dt * u.ms)

    def run() -> Any:
        found = simulator.run(
            work.n_steps * work.dt * u.ms, monitors=lambda m: m.node.x.value, sample_every=work.keep
        )
        return jax.block_until_ready(found["output"])

    return run


def gradient(work: Any) -> Callable[[], Any]:
    trained = brainstate.nn.Param(jnp.asarray(work.a, jnp.float32))
    gain = brainstate.nn.Param(jnp.asarray(work.k, jnp.float32))
    net = _network(work, trained, gain)
    simulator = brainmass.Simulator(net, dt=work.dt * u.ms)
    target = jnp.asarray(work.target, jnp.float32)

    def loss() -> Any:
        found = simulator.run(
            work.n_steps * work.dt * u.ms,
            monitors=lambda m: m.node.x.value,
            sample_every=work.keep,
            jit=False,
        )
        return fc_loss(found["output"], target)

    @brainstate.transform.jit
    def both() -> Any:
        return brainstate.transform.grad(loss, net.states(brainstate.ParamState), return_value=True)()

    return lambda: jax.block_until_ready(both())


def mpr(work: Any) -> Callable[[], Any]:
    brainstate.environ.set(dt=work.dt * u.ms)
    constant, n = braintools.init.Constant, work.n_regions
    node = brainmass.MontbrioPazoRoxinStep(
        n,
        tau=work.tau * u.ms,
        eta=work.eta,
        delta=work.delta / work.tau * u.kHz,
        J=work.j,
        init_r=constant(work.r0 * u.kHz),
        init_v=constant(work.v0),
    )
    net = brainmass.Network(
        node,
        conn=jnp.asarray(work.weights, jnp.float32),
        distance=jnp.asarray(work.lengths, jnp.float32) * u.mm,
        speed=work.speed * u.mm / u.ms,
        coupling="additive",
        coupled_var="v",
        k=1e-3 * work.k * u.Hz,
        delay_init=constant(work.v0),
    )
    simulator = brainmass.Simulator(net, dt=work.dt * u.ms)

    def run() -> Any:
        found = simulator.run(
            work.n_steps * work.dt * u.ms, monitors=lambda m: m.node.r.value, sample_every=work.keep
        )
        return jax.block_until_ready(found["output"])

    return run


if __name__ == "__main__":
    simple = (
        "Network and Simulator.run, which compiles anew every time; exponential Euler, x coupled into x only"
    )
    delayed = "Network and Simulator.run; exponential Euler, delays in whole steps; v is sent and enters r, the first port: r itself does not fit the units of its delay line"
    timing.main(
        "brainmass",
        {
            "W1": hopf,
            "W2": mpr,
            "W2-400": mpr,
            "W4a": gradient,
            "W5": timing.one_after_another(hopf),
        },
        {
            "W1": simple,
            "W2": delayed,
            "W2-400": delayed,
            "W4a": "Network and Simulator.run inside brainstate's grad and jit; x coupled into x only",
            "W5": simple + "; one set after another: models cannot be made inside vmap",
        },
        {},
        complete=True,  # every run compiles anew, which must not be scaled
    )
