"""The works through the public API: `Network`, `Simulator.run` and its observers, nothing else."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from brainunit import kHz, second
from fc import fc_loss
from works import HopfWork, MPRWork, RWWWork

import brainloom
from brainloom.observe import BOLD


def network(work: HopfWork, a: jax.Array | np.ndarray, k: jax.Array | float) -> brainloom.Network:
    """The Hopf network of a work for one set of parameters."""
    noise = work.sigma or None
    node = brainloom.HopfStep(
        work.n_regions,
        a=a,
        w=work.w,
        beta=work.beta,
        init_x=work.x0,
        init_y=work.y0,
        noise_x=noise,
        noise_y=noise,
        method="euler",
    )
    return brainloom.Network(node, work.weights, coupling="diffusive", coupled_var=("x", "y"), k=k)


def hopf(work: HopfWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], jax.Array]:
    """W1, x as (sample, region), or, with several sets, W5: (set, sample, region)."""
    simulator, duration = brainloom.Simulator, work.n_steps * work.dt
    options = {"monitors": "x", "sample_every": work.keep, "noise": noise}
    if np.ndim(work.a) == 1:
        one, key = simulator(network(work, work.a, float(work.k)), dt=work.dt), jax.random.key(seed)
        return lambda: jax.block_until_ready(one.run(duration, key=key, **options)["x"])

    @jax.jit
    @jax.vmap
    def run(a: jax.Array, k: jax.Array, key: jax.Array) -> jax.Array:
        return simulator(network(work, a, k), dt=work.dt).run(duration, key=key, **options)["x"]

    sets = (jnp.asarray(work.a, jnp.float32), jnp.asarray(work.k, jnp.float32))
    keys = jax.random.split(jax.random.key(seed), len(work.a))
    return lambda: jax.block_until_ready(run(*sets, keys))


def hopf_gradient(
    work: HopfWork, *, noise: str = "gaussian", seed: int = 0
) -> Callable[[], tuple[float, jax.Array]]:
    """W4a: the loss and its gradient, (1 + region,): in k, then in every a."""
    target, key = jnp.asarray(work.target, jnp.float32), jax.random.key(seed)

    @jax.jit
    @jax.value_and_grad
    def run(parameters: jax.Array) -> jax.Array:
        one = brainloom.Simulator(network(work, parameters[1:], parameters[0]), dt=work.dt)
        found = one.run(work.n_steps * work.dt, monitors="x", sample_every=work.keep, noise=noise, key=key)
        return fc_loss(found["x"], target)

    parameters = jnp.concatenate([jnp.asarray([work.k], jnp.float32), jnp.asarray(work.a, jnp.float32)])
    return lambda: jax.block_until_ready(run(parameters))


def mpr(work: MPRWork) -> Callable[[], jax.Array]:
    """W2: r (1/ms) as (sample, region)."""
    node = brainloom.MontbrioPazoRoxinStep(
        work.n_regions,
        tau=work.tau,
        Delta=work.delta,
        eta=work.eta,
        J=work.j,
        I=work.current,
        init_r=work.r0,
        init_v=work.v0,
        method="heun",
    )
    net = brainloom.Network(
        node,
        work.weights,
        distance=work.lengths,
        speed=work.speed,
        coupling="additive",
        coupled_var="rate_tau",
        port="current",
        k=work.k,
    )
    one = brainloom.Simulator(net, dt=work.dt)

    def run() -> jax.Array:
        found = one.run(work.n_steps * work.dt, monitors="r", sample_every=work.keep)
        return jax.block_until_ready(found["r"].to_decimal(kHz))

    return run


def bold_run(
    work: RWWWork, w: jax.Array | np.ndarray, k: jax.Array | float, noise: str, seed: int
) -> jax.Array:
    """BOLD of a reduced Wong-Wang work for one set of parameters."""
    node = brainloom.ReducedWongWangStep(
        work.n_regions,
        a=work.a,
        b=work.b,
        d=work.d,
        gamma=work.gamma,
        tau_S=work.tau,
        J_N=work.j,
        w=w,
        I_o=work.current,
        init_S=work.start,
        noise_S=work.sigma or None,
        method="euler",
    )
    net = brainloom.Network(
        node, work.weights, coupling="additive", coupled_var="S", port="excitatory_gating", k=k
    )
    observer = BOLD(
        work.keep * work.dt * second,
        "S",
        dt=work.sub * work.dt,
        kappa=work.kappa,
        gamma=work.flow_gamma,
        tau=work.transit,
        alpha=work.alpha,
        rho=work.rho,
        V0=work.v0,
        k1=work.k1,
        k2=work.k2,
        k3=work.k3,
    )
    one = brainloom.Simulator(net, dt=work.dt * second)
    options = {"noise": noise, "key": jax.random.key(seed), "monitors": []}
    return one.run(work.n_steps * work.dt * second, observe=[observer], **options)["bold"]


def rww(work: RWWWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], jax.Array]:
    """W3: BOLD as (sample, region)."""
    return lambda: jax.block_until_ready(bold_run(work, work.w, work.k, noise, seed))


def rww_gradient(
    work: RWWWork, *, noise: str = "gaussian", seed: int = 0
) -> Callable[[], tuple[float, jax.Array]]:
    """W4b: the loss and its gradient, (1 + region,): in k, then in every w."""
    target = jnp.asarray(work.target, jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def run(p: jax.Array) -> jax.Array:
        return fc_loss(bold_run(work, p[1:], p[0], noise, seed), target)

    parameters = jnp.concatenate([jnp.asarray([work.k], jnp.float32), jnp.asarray(work.w, jnp.float32)])
    return lambda: jax.block_until_ready(run(parameters))
