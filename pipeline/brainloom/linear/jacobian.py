"""Jacobians of models and networks, by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from brainloom import engine
from brainloom.engine import Structure
from brainloom.models.base import Arrays, NeuralMass


def network_jacobian(structure: Structure, params: Arrays, state: Arrays) -> jax.Array:
    """
    Full Jacobian of a network at a state, delayed couplings taken without their delays and noise signals at their means.

    Returns
    -------
    (state * region, state * region) array, 1/time; blocks in the model's state order.
    """
    names = structure.model.state_names()
    flat = jnp.concatenate([state[name] for name in names])
    return jax.jacfwd(_flat_field(structure, params, state[names[0]].shape[0]))(flat)


def _flat_field(structure: Structure, params: Arrays, n_regions: int) -> Callable[[jax.Array], jax.Array]:
    """The coupled derivative as a function of one long vector, state after state."""
    names = structure.model.state_names()
    p = engine.prepare(structure, params, 1.0)
    means = engine.start_noise(structure, p, (n_regions,), None)

    def rhs(flat: jax.Array) -> jax.Array:
        values = means | dict(zip(names, flat.reshape(len(names), n_regions), strict=True))
        out = engine.field(structure, p, values, {}, 0.0)
        return jnp.concatenate([jnp.broadcast_to(out[name], (n_regions,)) for name in names])

    return rhs


def local_jacobian(model: type[NeuralMass], params: Arrays, state: Arrays) -> jax.Array:
    """
    Jacobian of the uncoupled regions at a state, one small matrix a region.

    Returns
    -------
    (state, state, region) array, 1/time: ``[k, l]`` is the derivative of equation k in state l.
    """
    names = model.state_names()
    columns = []
    for name in names:

        def own(value: jax.Array, name: str = name) -> Arrays:
            return model.rhs(params, state | {name: value}, {}, 0.0)

        _, tangent = jax.jvp(own, (state[name],), (jnp.ones_like(state[name]),))
        columns.append(jnp.stack([tangent[row] for row in names]))
    return jnp.stack(columns, axis=1)


def rotating_rate(local: jax.Array) -> jax.Array:
    """
    Complex rate ``alpha + i omega`` of regions whose local Jacobian is a rotation and a scaling.

    A (2, 2, region) Jacobian ``[[alpha, -omega], [omega, alpha]]`` acts on z = x + i y as multiplication by
    ``alpha + i omega``, which halves the size of every matrix of the network. A (1, 1, region) Jacobian is
    its own real rate.

    Raises
    ------
    ValueError
        The model has neither one nor two states.
    """
    if local.shape[0] == 1:
        return local[0, 0]
    if local.shape[0] != 2:
        raise ValueError(f"a model with {local.shape[0]} states has no complex form; use network_jacobian")
    return 0.5 * (local[0, 0] + local[1, 1]) + 0.5j * (local[1, 0] - local[0, 1])


def stability_margin(jacobian: jax.Array) -> jax.Array:
    """Distance of the rightmost eigenvalue from the imaginary axis, 1/time; positive if stable."""
    return -jnp.max(jnp.real(jnp.linalg.eigvals(jacobian)))
