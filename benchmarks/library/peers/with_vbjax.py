"""The works in vbjax, with its own loops and, for W2, its own model and delays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timing
import vbjax as vb
from fc import fc_loss


def _loop(work: Any) -> tuple[Any, Any]:
    weights, w = jnp.asarray(work.weights, jnp.float32), jnp.asarray(work.w, jnp.float32)
    strength = weights.sum(axis=1)

    def field(state: Any, p: Any) -> Any:
        a, k = p
        x, y = state
        grow = a - work.beta * (x * x + y * y)
        cx, cy = k * (weights @ x - strength * x), k * (weights @ y - strength * y)
        return jnp.stack([grow * x - w * y + cx, grow * y + w * x + cy])

    _, loop = vb.make_sde(work.dt, field, work.sigma)
    n = work.n_regions
    start = jnp.stack([jnp.full(n, work.x0), jnp.full(n, work.y0)]).astype(jnp.float32)
    return loop, start


def hopf(work: Any) -> Callable[[], Any]:
    loop, start = _loop(work)
    a, k = jnp.asarray(work.a, jnp.float32), jnp.asarray(work.k, jnp.float32)

    def one(a: Any, k: Any, key: Any) -> Any:
        z = vb.randn(work.n_steps, 2, work.n_regions, key=key)
        return loop(start, z, (a, k))[:: work.keep, 0]

    key = jax.random.PRNGKey(0)
    if a.ndim == 1:
        run = jax.jit(one)
        return lambda: jax.block_until_ready(run(a, k, key))
    run, keys = jax.jit(jax.vmap(one)), jax.random.split(key, len(a))
    return lambda: jax.block_until_ready(run(a, k, keys))


def gradient(work: Any) -> Callable[[], Any]:
    loop, start = _loop(work)
    target, key = jnp.asarray(work.target, jnp.float32), jax.random.PRNGKey(0)

    @jax.jit
    @jax.value_and_grad
    def run(p: Any) -> Any:
        z = vb.randn(work.n_steps, 2, work.n_regions, key=key)
        return fc_loss(loop(start, z, (p[1:], p[0]))[:: work.keep, 0], target)

    p = jnp.concatenate([jnp.asarray([work.k]), jnp.asarray(work.a)]).astype(jnp.float32)
    return lambda: jax.block_until_ready(run(p))


def mpr(work: Any) -> Callable[[], Any]:
    n = work.n_regions
    weights = jnp.asarray(work.weights, jnp.float32)
    helper = vb.make_delay_helper(weights, jnp.asarray(work.lengths, jnp.float32), dt=work.dt, v_c=work.speed)
    theta = vb.mpr_default_theta._replace(
        tau=work.tau, I=work.current, Delta=work.delta, J=work.j, eta=work.eta, cr=work.k * work.tau
    )

    def field(past: Any, state: Any, t: Any, p: Any) -> Any:
        return vb.mpr_dfun(state, vb.delay_apply(helper, t, past), p)

    depth, chunk = int(helper.max_lag), min(1000, work.n_steps)
    _, loop = vb.make_dde(work.dt, depth, field, unroll=1)
    state = np.array([work.r0, work.v0], np.float32)[:, None]

    @jax.jit
    def run(p: Any) -> Any:
        def page(past: Any, _: Any) -> Any:
            buffer = jnp.concatenate([past, jnp.zeros((chunk, 2, n), jnp.float32)])
            buffer, states = loop(buffer, p)
            return buffer[chunk:], states[work.keep - 1 :: work.keep, 0]

        past = jnp.broadcast_to(jnp.asarray(state), (depth + 1, 2, n))
        return jax.lax.scan(page, past, None, length=work.n_steps // chunk)[1]

    return lambda: jax.block_until_ready(run(theta))


if __name__ == "__main__":
    sde = "make_sde: stochastic Heun (it has no Euler-Maruyama), all noise drawn first with vb.randn"
    dde = "make_dde in chunks of 1000 steps: Heun, delays rounded down to whole steps, both states delayed, r clipped at 0"
    timing.main(
        "vbjax",
        {"W1": hopf, "W2": mpr, "W2-400": mpr, "W4a": gradient, "W5": hopf},
        {"W1": sde, "W4a": sde, "W5": sde + ", under vmap", "W2": dde, "W2-400": dde},
        {},
    )
