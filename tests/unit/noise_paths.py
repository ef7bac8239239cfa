"""Paths of noise processes for their tests."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def values(process, unit="1", time_unit="ms"):
    return process.parameter_values(unit, time_unit, "x")


def signal_of(process, n_steps, n_regions, dt, *, prepared=True):
    """Path (step, region) of a signal from its stationary start, value at the start included."""
    structure, kind = process.structure(), type(process)
    random = np.random.default_rng(0)
    starts = random.normal(size=(kind.n_start(structure), n_regions))
    draws = random.normal(size=(n_steps, n_regions))
    given = values(process)

    @jax.jit
    def run(given, starts, draws):
        p = kind.prepare(structure, given, dt) if prepared and hasattr(kind, "prepare") else given
        state = kind.start(structure, p, starts)

        def step(state, draw):
            new = kind.advance(structure, p, state, draw, dt)
            return new, new["value"]

        return jnp.concatenate([state["value"][None], jax.lax.scan(step, state, draws)[1]])

    return np.asarray(run(given, starts, draws))
