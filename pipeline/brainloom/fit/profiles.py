"""The loss along one parameter while all others are fitted again, and the interval that a likelihood gives so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm

from brainloom.fit.curvature import METHODS, Problem
from brainloom.fit.laplace import inverse
from brainloom.fit.readout import is_joint, labels_of, natural_scales, plain, slices
from brainloom.fit.transforms import raw_of, with_unit
from brainloom.objectives.information import is_likelihood

if TYPE_CHECKING:
    import xarray as xr

# Others are fitted until so much of a likelihood is left to gain, relative to the rise at the end of the grid.
TOLERANCE = 1e-5


@dataclass
class Profile:
    """
    Result of `brainloom.Fitter.profile`.

    Attributes
    ----------
    name : str
        The number that was moved, such as ``node.a[3]``.
    values : (point,) array or Quantity
        Where it was held.
    loss : (point,) array
        Lowest loss there.
    best_value, best_loss
        Where the model is, all others fitted again.
    lower, upper : number or Quantity
        Where twice the rise of the loss is the quantile of chi-square with one degree of freedom (Wilks 1938); infinite
        where it is not reached within the grid, NaN if the loss is no likelihood.
    level : float
    converged : (point,) array
        Whether the others reached their optimum.
    theta : (point, coefficient) array
        All unconstrained numbers there.
    notes : list of str
    """

    name: str
    values: Any
    loss: np.ndarray
    best_value: Any
    best_loss: float
    lower: Any
    upper: Any
    level: float
    converged: np.ndarray
    theta: np.ndarray
    notes: list[str]

    def __repr__(self) -> str:
        return f"Profile({self.name}={self.best_value}, {100 * self.level:g} % interval {self.lower} to {self.upper})"

    def to_xarray(self) -> xr.Dataset:
        """``loss, converged (value)`` and ``theta(value, coefficient)``, with the interval as attributes."""
        import xarray as xr

        unit = str(self.values.unit) if hasattr(self.values, "unit") else "1"
        about = {"units": unit, "long_name": f"value at which {self.name} was held"}
        return xr.Dataset(
            {
                "loss": ("value", self.loss, {"units": "1", "long_name": "lowest loss at a value"}),
                "converged": (
                    "value",
                    self.converged,
                    {"long_name": "whether the others reached their optimum"},
                ),
                "theta": (
                    ("value", "coefficient"),
                    self.theta,
                    {"units": "1", "long_name": "unconstrained numbers"},
                ),
            },
            coords={"value": ("value", plain(self.values), about)},
            attrs={
                "kind": "profile",
                "parameter": self.name,
                "level": self.level,
                "estimate": float(plain(self.best_value)),
                "best_loss": self.best_loss,
                "lower": float(plain(self.lower)),
                "upper": float(plain(self.upper)),
            },
        )


def profile(
    fitter: Any,
    target: Any = None,
    name: str = "",
    *,
    index: int | tuple[int, ...] | None = None,
    grid: Any = None,
    n_points: int = 11,
    width: float = 2.5,
    level: float = 0.9,
    likelihood: bool | None = None,
    result: Any = None,
    method: str = "hessian",
    n_steps: int = 100,
    chunk: int = 8,
) -> Profile:
    """
    Hold one number at each point of a grid and fit all others again.

    Every fit begins where the quadratic approximation says that it ends, in coordinates in which that is round; all
    points are one compiled program. The loss is that of the fit, priors included.

    Parameters
    ----------
    fitter : Fitter
    target : pytree of arrays, optional
        The target of the fit; none for a ``loss_fn``.
    name : str
        Of a parameter with numbers of its own; what is computed from others has parts to profile.
    index : int or tuple of int, optional
        Which number of a field.
    grid : array or Quantity, optional
        In the space and unit of the parameter, increasing. If not given, `n_points` up to `width` standard deviations
        from the estimate on both sides, equally spaced for the optimiser.
    n_points : int
    width : float
    level : float
        Of the interval.
    likelihood : bool, optional
        Whether the loss is a negative log-likelihood; found from the objective if not given.
    result : FitResult, optional
        The fit whose noise is used; the last one of the fitter if not given.
    method : {"hessian", "gauss_newton"}
        See `identify`.
    n_steps : int
        At most, for each point.
    chunk : int
        Directions that are differentiated at once.

    Returns
    -------
    Profile
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(map(repr, METHODS))}")
    problem = Problem(fitter, target, fitter.seeds if result is None else result.seeds)
    place, label, param = _place(problem, name, index)
    known = False if fitter.loss_fn is not None else bool(is_likelihood(fitter.objective))
    likelihood = known if likelihood is None else likelihood
    data, prior, _ = problem.curvature(method, chunk)
    total, at = data + prior, problem.at
    itemsize = problem.vector.dtype.itemsize
    natural = natural_scales(problem.trainable, at)
    scale = np.where(np.isnan(natural), 1.0, natural)
    back = inverse(total, scale, itemsize)
    if back.unbounded(scale)[place]:
        path, sd = back.free @ back.free[place] / np.sum(back.free[place] ** 2), scale[place]
    else:
        column = back.root @ back.root[place]
        path, sd = column / column[place], np.sqrt(column[place])
    if not likelihood and grid is None:
        sd = 0.2 * scale[place]  # curvature has no unit of an error here
    forward = (lambda x: x) if param is None else param.t.forward
    if grid is None:
        if not isinstance(n_points, int) or n_points < 3 or not width > 0.0:
            raise ValueError(
                f"n_points is {n_points} and width {width}; take at least 3 points and a positive width"
            )
        points = at[place] + sd * width * np.linspace(-1.0, 1.0, n_points)
    else:
        points = _raw_grid(grid, param, at[place])
    rest = np.delete(np.arange(len(at)), place)
    round_ = _whitening(total[np.ix_(rest, rest)], scale[rest])
    moves = np.zeros((len(at), len(rest)))
    moves[rest] = round_
    rise = 0.5 * np.max((points - at[place]) ** 2) * max(float(path @ total @ path), 0.0)
    starts = at + np.outer(points - at[place], path)
    starts[:, place] = points
    rise = max(rise, 1.0 if likelihood else np.finfo(float).tiny)
    loss, theta, converged = problem.refit(np.vstack([starts, at]), moves, TOLERANCE * rise, n_steps)
    best, loss, theta, converged = float(loss[-1]), loss[:-1], theta[:-1], converged[:-1]
    notes = []
    rounding = 100.0 * np.finfo(problem.vector.dtype).eps * abs(best)
    if np.nanmin(loss) < best - max(10.0 * TOLERANCE * rise, rounding):
        low = plain(forward(jnp.asarray(points[int(np.nanargmin(loss))])))
        notes.append(
            f"The loss is lower where {label} is {float(low):.4g} than where the model is; fit on from there."
        )
    ends = (np.nan, np.nan)
    if likelihood:
        ends = _wilks(points - at[place], loss - min(best, np.nanmin(loss)), level)
    shown = [forward(jnp.asarray(at[place] + end)) for end in ends]
    flipped = plain(forward(jnp.asarray(points[-1]))) < plain(forward(jnp.asarray(points[0])))
    values = forward(jnp.asarray(points))
    return Profile(
        name=label,
        values=values,
        loss=loss,
        best_value=forward(jnp.asarray(at[place])),
        best_loss=best,
        lower=shown[1] if flipped else shown[0],
        upper=shown[0] if flipped else shown[1],
        level=level,
        converged=converged,
        theta=theta,
        notes=notes,
    )


def _place(problem: Problem, name: str, index: Any) -> tuple[int, str, Any]:
    """Position in the vector, label and parameter of a number."""
    trainable, places = problem.trainable, slices(problem.trainable)
    if name in trainable.composed:
        parts = ", ".join(f"{name}.{part}" for part in trainable.composed[name].parts)
        raise ValueError(f"{name} is computed from others; profile {parts}")
    names = [one for one, _, _ in places]
    if name not in names:
        raise ValueError(f"there is no fitted parameter {name!r}; there are {', '.join(names)}")
    k = names.index(name)
    _, where, param = places[k]
    shape = trainable.shapes[k]
    if param is not None and is_joint(param):
        raise ValueError(
            f"the values of {name} depend on each other through {param.t}; they have no profile each"
        )
    if index is None:
        if int(np.prod(shape)) != 1:
            raise ValueError(f"{name} has shape {tuple(shape)}; say which number with index=")
        index = (0,) * len(shape)
    given = index if isinstance(index, tuple) else (index,)
    if len(given) != len(shape) or any(not -n <= i < n for i, n in zip(given, shape, strict=True)):
        raise ValueError(f"index is {index}, but {name} has shape {tuple(shape)}")
    flat = (
        int(np.ravel_multi_index([i % n for i, n in zip(given, shape, strict=True)], shape)) if shape else 0
    )
    return where.start + flat, labels_of(name, shape)[flat], param


def _raw_grid(grid: Any, param: Any, here: float) -> np.ndarray:
    given = grid
    if param is not None:
        unit = getattr(param.t.forward(jnp.asarray(here)), "unit", None)
        given = raw_of(param.t, with_unit(grid, unit, "the grid"), "the grid")
    points = np.atleast_1d(plain(given))
    if (
        points.ndim != 1
        or len(points) < 2
        or not (np.diff(points) > 0.0).all() | (np.diff(points) < 0.0).all()
    ):
        raise ValueError("grid must be two or more values that increase")
    return points


def _whitening(total: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Coordinates in which a curvature is the identity; where it is flat, a usual change is a large step."""
    if not len(total):
        return np.zeros((0, 0))
    value, vector = np.linalg.eigh(scale[:, None] * total * scale)
    floor = 1e-6 * max(np.abs(value).max(), np.finfo(float).tiny)
    return scale[:, None] * vector / np.sqrt(np.maximum(np.abs(value), floor))


def _wilks(offset: np.ndarray, rise: np.ndarray, level: float) -> tuple[float, float]:
    """Offsets where the signed root of twice the rise is the normal quantile; infinite where it is not reached."""
    quantile = float(norm.ppf(0.5 + 0.5 * level))
    fine = np.isfinite(rise)
    offset, rise = offset[fine], rise[fine]
    if not (offset == 0.0).any():
        offset, rise = np.append(offset, 0.0), np.append(rise, 0.0)
    order = np.argsort(offset)
    x, root = offset[order], (np.sign(offset) * np.sqrt(2.0 * np.maximum(rise, 0.0)))[order]
    ends = []
    for side in (-1.0, 1.0):
        out = np.flatnonzero(side * root >= quantile)
        if not len(out):
            ends.append(side * np.inf)
            continue
        # up to the first point beyond, on this side of the estimate
        last = out[np.argmin(np.abs(x[out]))]
        part = (
            slice(int(np.flatnonzero(x == 0.0)[0]), last + 1)
            if side > 0
            else slice(last, int(np.flatnonzero(x == 0.0)[0]) + 1)
        )
        r, where = np.maximum.accumulate(root[part]), x[part]
        keep = np.append(True, np.diff(r) > 0.0)
        ends.append(float(PchipInterpolator(r[keep], where[keep])(side * quantile)))
    return ends[0], ends[1]
