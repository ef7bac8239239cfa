"""
Conduction delays: histories that are read by linear interpolation, many steps at once.

A source observable is stored every step, oldest first. The value at ``t - tau`` is read between two stored
samples: with ``d = tau / dt``, ``m = floor(d)``, ``th = d - m`` it is ``(1 - th) x[n - m] + th x[n - m - 1]``. Its
derivative in tau is ``-(x[n - m] - x[n - m - 1]) / dt``, exact for the interpolant.

Within a step the value is read at its start and its end, and mixed linearly for the stages between. Linear
interpolation limits the order of every scheme to 2. What is not there yet at the end of a step, where a delay is
shorter than that, is taken from the newest sample, which limits it to 1: take dt below the shortest delay.

While no delay is shorter than K steps, the next K steps read only what is stored already. One gather then
fetches a window of K + 2 samples for every connection, and K steps run without touching the history.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Delays this close below a whole number of steps count as whole, so that 10 ms at dt 0.1 is 100 steps.
ROUNDING = 1e-3
# Bytes of windows that are read at once; larger ones leave the second-level cache before they are used.
CACHE = 1_000_000


def block_and_length(shortest: float, longest: float, dt: float) -> tuple[int, int]:
    """
    Steps that can run without reading the history, and samples to keep.

    Parameters
    ----------
    shortest, longest : float
        Bounds of the delays of all connections, not just their current values.
    dt : float

    Returns
    -------
    block : int, at least 1
    length : int
        ``ceil(longest / dt) + 2``
    """
    block = max(1, int(np.floor(shortest / dt + 0.5 * ROUNDING)))
    return block, int(np.ceil(longest / dt - 0.5 * ROUNDING)) + 2


def neighbours(weights: np.ndarray) -> np.ndarray:
    """
    Sources of every region, padded to the same number.

    Parameters
    ----------
    weights : (region, region) array
        Concrete; a connection is where it is not 0.

    Returns
    -------
    (region, most_sources) integer array; the padding is the region itself, whose weight must be 0.
    """
    linked = np.asarray(weights) != 0
    degree = linked.sum(axis=1)
    most = max(1, int(degree.max(initial=1)))
    first = np.argsort(~linked, axis=1, kind="stable")[:, :most]  # linked regions first, in their order
    own = np.arange(len(linked))[:, None]
    return np.where(np.arange(most) < degree[:, None], first, own).astype(np.int32)


def split(delay: jax.Array, dt: Any) -> tuple[jax.Array, jax.Array]:
    """
    Whole steps and the fraction of a step of a delay.

    Returns
    -------
    whole : integer array
    fraction : array
        In [0, 1) up to rounding; its derivative in the delay is 1/dt.
    """
    steps = delay / dt
    whole = jnp.floor(jax.lax.stop_gradient(steps) + ROUNDING)
    return whole.astype(jnp.int32), steps - whole


def windows(buffer: jax.Array, sources: jax.Array, first: jax.Array, n: int) -> jax.Array:
    """
    `n` consecutive samples of a source for every connection.

    Parameters
    ----------
    buffer : (region, sample, ...) array
    sources, first : (region, most_sources) integer arrays
        Which region, and its first sample.
    n : int

    Returns
    -------
    (region, most_sources, n, ...) array
    """
    # one number a window into the buffer laid out as one long row: half the indices to make
    index = (sources * buffer.shape[1] + first).reshape(-1, 1)
    row = buffer.reshape(-1, *buffer.shape[2:])
    offsets = tuple(range(1, row.ndim + 1))
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=offsets, collapsed_slice_dims=(), start_index_map=(0,)
    )
    found = jax.lax.gather(row, index, numbers, (n, *row.shape[1:]), mode="promise_in_bounds")
    return found.reshape(*sources.shape, n, *buffer.shape[2:])


def windows_up_to(buffer: jax.Array, sources: jax.Array, first: jax.Array, n: int, newest: Any) -> jax.Array:
    """As `windows`, for delays shorter than a step: samples after `newest` repeat it."""
    index = jnp.minimum(first[..., None] + jnp.arange(n, dtype=first.dtype), newest)
    return buffer[sources[..., None], index]


def delayed_sum(
    buffer: jax.Array, sources: jax.Array, first: jax.Array, pair: jax.Array, n: int
) -> jax.Array:
    """
    `interpolated_sum` of the `windows` of all regions, some regions at a time if all would not fit the cache.

    Returns
    -------
    (n - 1, ..., region) array
    """
    regions, most = sources.shape
    width = n * int(np.prod(buffer.shape[2:], dtype=int)) * buffer.dtype.itemsize
    fits = [k for k in range(1, regions + 1) if regions % k == 0 and k * most * width <= CACHE]
    some = max(fits, default=1)
    if some == regions or 2 * regions * most * width < 3 * CACHE or some < 4:
        return interpolated_sum(windows(buffer, sources, first, n), pair)

    def part(rows: tuple) -> jax.Array:
        sources, first, pair = rows
        return interpolated_sum(windows(buffer, sources, first, n), pair)

    tiles = jax.tree.map(lambda x: x.reshape(regions // some, some, *x.shape[1:]), (sources, first, pair))
    found = jnp.moveaxis(jax.lax.map(part, tiles), 0, -2)
    return found.reshape(*found.shape[:-2], regions)


def interpolated(window: jax.Array, fraction: jax.Array) -> jax.Array:
    """Values between neighbouring samples of `windows`: one sample fewer than there are in a window."""
    th = fraction.reshape(*fraction.shape, *(1,) * (window.ndim - 2))
    return (1.0 - th) * window[:, :, 1:] + th * window[:, :, :-1]


def pair_weights(fraction: jax.Array, weights: jax.Array) -> jax.Array:
    """Weights of the older and the newer of two neighbouring samples, (region, 2, most_sources)."""
    return jnp.stack([weights * fraction, weights * (1.0 - fraction)], axis=1)


def interpolated_sum(window: jax.Array, pair: jax.Array) -> jax.Array:
    """
    ``sum_j W_ij x_j(t - tau_ij)`` for every sample of the windows, as one batch of small matrix products.

    Parameters
    ----------
    window : (region, most_sources, n, ...) array
    pair : (region, 2, most_sources) array
        From `pair_weights`.

    Returns
    -------
    (n - 1, ..., region) array
    """
    flat = window.reshape(*window.shape[:2], -1)
    both = jax.lax.dot_general(pair, flat, (((2,), (1,)), ((0,), (0,))))
    both = both.reshape(both.shape[0], 2, *window.shape[2:])
    return jnp.moveaxis(both[:, 0, :-1] + both[:, 1, 1:], 0, -1)
