"""Objectives on functional connectivity dynamics (FCD): its matrix, and the distribution of its values."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.objectives.arrays import centre, correlations, pearson, unit_norm, upper
from brainloom.objectives.base import Objective, is_feature, known, read_signal, seconds, split_unit
from brainloom.objectives.distributions import bandwidth_rule, cumulative, grid_of, ks, wasserstein
from brainloom.objectives.features import FCD

WINDOW, STEP = 60.0, 3.0  # s


def fcd_matrix(x: jax.Array, window: int, step: int) -> jax.Array:
    """
    Correlation of the upper triangles of windowed FC, every window with every other; differentiable.

    Parameters
    ----------
    x : (time, region) array
    window, step : int
        Samples.

    Returns
    -------
    (window, window_to) array
    """
    starts = np.arange(0, x.shape[0] - window + 1, step)
    pieces = x[starts[:, None] + np.arange(window)]
    rows = unit_norm(centre(upper(correlations(pieces, pieces)), -1), -1)
    return rows @ rows.T


def fcd(
    window: Any = None,
    step: Any = None,
    as_loss: bool = False,
    *,
    tr: Any = None,
    n_diag: int | None = None,
    window_size: int | None = None,
    step_size: int | None = None,
) -> Objective:
    """
    Pearson correlation between the FCD matrices of prediction and target.

    Takes signals (time, region) or `FCD` on either side. It compares moment with moment, which only means something
    if both were driven alike; to compare recordings with free-running models, take `fcd_wasserstein` or `fcd_ks`.

    Parameters
    ----------
    window, step : int or Quantity, optional
        Samples, or durations if `tr` is given. By default 60 s and 3 s, rounded to samples (83 and 4 at a `tr` of 0.72 s).
    as_loss : bool
        1 - r, to be minimised.
    tr : number of s or Quantity, optional
        Interval of the samples.
    n_diag : int, optional
        First diagonal above the main one that is read. With `tr`, pairs of windows that share no sample, from
        ``ceil(window / step)`` on. Without it, 1: all pairs, as in the packages that count windows in samples.
    window_size, step_size : int, optional
        Other names of `window` and `step` in samples, by default 30 and 5.
    """
    options = _windows(window, step, tr, n_diag, window_size, step_size)
    return Objective("fcd", _fcd, as_loss=as_loss, **options)


def _fcd(prediction: Any, target: Any, who: str, as_loss: bool, **windows: int) -> jax.Array:
    a, known_a = _read(prediction, who, "prediction", **windows)
    b, known_b = _read(target, who, "target", **windows)
    for x, role in ((a, "prediction"), (b, "target")):
        if x.shape[0] != 1:
            raise ValueError(
                f"the {role} of {who} has {x.shape[0]} realisations; compare one at a time with jax.vmap, "
                "or their distributions with fcd_wasserstein"
            )
    if a.shape != b.shape:
        raise ValueError(f"{who} compares the same windows, but prediction and target differ in their number")
    r = pearson(a, b, known_a * known_b)
    return 1.0 - r if as_loss else r


def _windows(
    window: Any, step: Any, tr: Any, n_diag: int | None, window_size: int | None, step_size: int | None
) -> dict[str, int]:
    """Window, step and first diagonal in samples."""
    if window_size is not None or step_size is not None:
        if window is not None or step is not None:
            raise ValueError("give window and step, or window_size and step_size; not both")
        window, step = 30 if window_size is None else window_size, 5 if step_size is None else step_size
    interval = None if tr is None else seconds(tr, "tr")
    length = _samples(window, WINDOW, interval, "window")
    stride = _samples(step, STEP, interval, "step")
    if length < 2:
        raise ValueError(f"window is {length} samples; correlations need at least 2")
    if n_diag is None:
        n_diag = 1 if interval is None else -(-length // stride)
    if not isinstance(n_diag, int) or n_diag < 1:
        raise ValueError(f"n_diag is {n_diag!r}; it must be a whole number, at least 1")
    return {"window": length, "step": stride, "n_diag": n_diag}


def _samples(value: Any, default: float, interval: float | None, name: str) -> int:
    if value is None or isinstance(value, u.Quantity):
        if interval is None:
            raise ValueError(
                f"{name} is {'not given' if value is None else 'a duration'}, but the interval of the samples is "
                "unknown; give tr (windows of 60 s every 3 s), or window and step as numbers of samples"
            )
        duration = default if value is None else seconds(value, name)
        return max(1, round(duration / interval))
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of samples, or a duration with tr")
    return int(value)


def _read(
    value: Any, who: str, role: str, window: int, step: int, n_diag: int
) -> tuple[jax.Array, jax.Array]:
    """FCD between pairs of windows, (realisation, pair), and 1 where it is known, 0 elsewhere."""
    if not is_feature(value, who, role, FCD):
        signal = read_signal(value, who, role, FCD)[0]
        if signal.shape[-1] < 3:
            raise ValueError(f"{who} needs at least 3 regions, not {signal.shape[-1]}")
        n = max(0, (signal.shape[0] - window) // step + 1)
        if n <= n_diag:
            raise ValueError(
                f"the {role} of {who} has {signal.shape[0]} samples, which is {n} windows of {window} every {step}; "
                f"it needs more than {n_diag} for two that are compared"
            )
        matrices = jax.vmap(lambda one: fcd_matrix(one, window, step), in_axes=1)(signal)
        pairs = upper(matrices, n_diag)
        return pairs, jnp.ones_like(pairs)  # a prediction that is not finite gives no finite result
    for name, own in (("window", window), ("step", step)):
        stated = getattr(value, name)
        if stated is not None and stated != own:
            raise ValueError(
                f"the {role} of {who} was made with a {name} of {stated} samples, the objective has {own}"
            )
    x = split_unit(value.matrix)[0]
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] <= n_diag:
        raise ValueError(
            f"the {role} of {who} has shape {x.shape}; it must be (..., window, window_to) with more than "
            f"{n_diag} windows"
        )
    pairs = upper(x.reshape(-1, *x.shape[-2:]), n_diag)
    given = known(value.matrix)
    if given is not None and not np.isfinite(upper(given, n_diag)).any():
        raise ValueError(f"the {role} of {who} has no finite FCD between windows that are compared")
    finite = jnp.isfinite(pairs)
    return jnp.where(finite, pairs, 0.0), finite.astype(pairs.dtype)


def fcd_ks(
    window: Any = None,
    step: Any = None,
    *,
    tr: Any = None,
    midpoints: Any = None,
    bw_method: Any = None,
    n_diag: int | None = None,
    window_size: int | None = None,
    step_size: int | None = None,
) -> Objective:
    """
    Kolmogorov-Smirnov distance between the distributions of FCD values, by kernel densities.

    The largest difference of the cumulative densities on a grid. It is continuous, but only the point of the largest
    difference passes a gradient; `fcd_wasserstein` uses the whole distribution. The exact two-sample distance, which
    reports and tables show, is `brainloom.analysis.fcd.fcd_ks`.

    Parameters
    ----------
    window, step, tr, n_diag, window_size, step_size
        See `fcd`. Values of all realisations (axes in the middle) are pooled; NaN entries of a target are left out.
    midpoints : (grid,) array, optional
        Evenly spaced grid; 100 points from -0.99 to 0.99 by default.
    bw_method : "scott", "silverman" or number, optional
        Bandwidth in units of the standard deviation, as in ``scipy.stats.gaussian_kde``; Scott's rule by default.
        It is at least a quarter of the spacing of the grid.
    """
    options = _windows(window, step, tr, n_diag, window_size, step_size)
    return Objective("fcd_ks", _ks, **options, **_density_options(midpoints, bw_method))


def fcd_wasserstein(
    window: Any = None,
    step: Any = None,
    *,
    tr: Any = None,
    midpoints: Any = None,
    bw_method: Any = None,
    n_diag: int | None = None,
    window_size: int | None = None,
    step_size: int | None = None,
) -> Objective:
    """
    Wasserstein-1 distance between the distributions of FCD values, by kernel densities: the area between the two.

    Parameters are those of `fcd_ks`. The objective of choice for gradients: each value counts.
    """
    options = _windows(window, step, tr, n_diag, window_size, step_size)
    return Objective("fcd_wasserstein", _wasserstein, **options, **_density_options(midpoints, bw_method))


def _density_options(midpoints: Any, bw_method: Any) -> dict[str, Any]:
    if midpoints is not None:
        midpoints = tuple(grid_of(midpoints).tolist())
    return {"midpoints": midpoints, "bw_method": bandwidth_rule(bw_method)}


def _cumulative(
    prediction: Any, target: Any, who: str, midpoints: Any, bw_method: str | float, **windows: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cumulative distributions of both sides, and the spacing of their grid."""
    both = []
    for value, role in ((prediction, "prediction"), (target, "target")):
        pairs, weight = _read(value, who, role, **windows)
        grid = jnp.asarray(grid_of(midpoints), pairs.dtype)
        both.append(cumulative(pairs.ravel(), weight.ravel(), grid, bw_method))
    return both[0], both[1], grid[1] - grid[0]


def _ks(prediction: Any, target: Any, who: str, **options: Any) -> jax.Array:
    a, b, _ = _cumulative(prediction, target, who, **options)
    return ks(a, b)


def _wasserstein(prediction: Any, target: Any, who: str, **options: Any) -> jax.Array:
    return wasserstein(*_cumulative(prediction, target, who, **options))
