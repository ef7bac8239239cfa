"""
Priors and penalties of fitted parameters: terms that are added to the loss.

A prior is a regularisation of brainstate: give it to a parameter (``prior=``, or ``reg=`` of ``brainstate.nn.Param``)
and ``model.reg_loss()`` holds it, which a `Fitter` with ``predict=`` adds to its loss; or add ``prior(value)`` to a loss
of your own. Terms add up: ``Gaussian(0.5, 0.1) + Smooth(weights)``.
"""

from __future__ import annotations

from typing import Any, ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
import brainloom.models  # noqa: F401
from brainloom.core.units import UnitError

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np


class Prior(brainstate.nn.Regularization):
    """Base of all priors; a subclass defines `loss`."""

    # "constrained": `loss` gets the value as the model uses it.
    space: str = "constrained"
    # Where a parameter is reset to; None: nowhere.
    mean: Any = None
    LABEL: ClassVar[str] = "the prior"

    def update(self, value: Any) -> Any:
        """The term at a value."""
        return self.loss(value)

    def term(self, value: Any, raw: Any, t: Any) -> Any:
        """The term of a parameter: its value, its unconstrained numbers and its transform."""
        return self.loss(value)

    def reset_value(self) -> Any:
        """Where the term is lowest."""
        if self.mean is None:
            raise ValueError(f"{self.LABEL} has no single lowest point to reset to")
        return self.mean

    def sample_init(self, shape: Any) -> Any:
        """A draw from the prior; only `Gaussian` is a distribution."""
        raise ValueError(f"{self.LABEL} is a penalty, not a distribution; nothing can be drawn from it")

    def __add__(self, other: Prior) -> Sum:
        return Sum(self, other)

    def scaled(self, value: Any, scale: Any) -> Any:
        """A difference in units of a scale, as a plain array."""
        found = _given(value) / scale
        if not isinstance(found, u.Quantity):
            return jnp.asarray(found, jnp.result_type(float))
        if found.dim != u.DIMENSIONLESS:
            raise UnitError(
                f"{self.LABEL} has a scale in {u.get_unit(scale)}, but the values are in "
                f"{u.get_unit(_given(value))}; "
                "give the scale in a unit that fits"
            )
        return found.to_decimal()

    def off(self, value: Any, centre: Any) -> Any:
        """The difference of a value from a centre; a plain 0 fits every unit."""
        value = _given(value)
        if _is_plain(centre) and not np.any(np.asarray(centre)):
            return value
        try:
            return value - centre
        except (u.UnitMismatchError, u.DimensionMismatchError) as error:
            raise UnitError(
                f"{self.LABEL} is centred at a value in {u.get_unit(centre)}, but the values are in "
                f"{u.get_unit(value)}"
            ) from error


class Sum(Prior):
    """The sum of several terms."""

    def __init__(self, *parts: Prior) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.space = (
            "unconstrained" if any(part.space == "unconstrained" for part in parts) else "constrained"
        )
        self.mean = next((part.mean for part in parts if part.mean is not None), None)

    def loss(self, value: Any) -> Any:
        """See `Prior`."""
        return sum((part.loss(value) for part in self.parts), 0.0)

    def term(self, value: Any, raw: Any, t: Any) -> Any:
        """See `Prior.term`."""
        return sum((part.term(value, raw, t) for part in self.parts), 0.0)


class Gaussian(Prior):
    """
    ``sum((x - mean)^2 / (2 sd^2))``, minus the logarithm of a Gaussian density but for a constant.

    Parameters
    ----------
    mean : number, array or Quantity
        In the space and unit of the parameter, whatever `space` is.
    sd : number, array or Quantity
        ``"constrained"``: in the unit of the parameter. ``"unconstrained"``: a plain number on the scale of the
        optimiser, so 0.3 is about 30 % for a positive parameter, which then has a log-normal prior of median `mean`.
    space : {"constrained", "unconstrained"}
        Where the density is Gaussian.
    """

    LABEL = "the Gaussian prior"

    def __init__(self, mean: Any, sd: Any, space: str = "constrained") -> None:
        super().__init__()
        if space not in ("constrained", "unconstrained"):
            raise ValueError(f"space is {space!r}; it must be 'constrained' or 'unconstrained'")
        if not (np.asarray(u.get_mantissa(sd), dtype=float) > 0.0).all():
            raise ValueError(f"sd of the Gaussian prior is {sd}; it must be positive")
        if space == "unconstrained" and u.get_unit(sd) != u.UNITLESS:
            raise UnitError(
                f"sd is given in {u.get_unit(sd)}, but in unconstrained space it is a plain number"
            )
        self.mean, self.sd, self.space = mean, sd, space

    def loss(self, value: Any) -> Any:
        """See `Prior`."""
        if self.space == "unconstrained":
            raise ValueError(
                "a Gaussian prior in unconstrained space needs the transform of its parameter; give it as prior= of "
                "a parameter of brainloom.fit.parameters"
            )
        return _half_squares(self.scaled(self.off(value, self.mean), self.sd))

    def term(self, value: Any, raw: Any, t: Any) -> Any:
        """See `Prior.term`."""
        if self.space == "constrained":
            return self.loss(value)
        return _half_squares((raw - self.centre(t)) / self.sd)

    def centre(self, t: Any) -> Any:
        """The mean in unconstrained space."""
        found = t.inverse(
            jnp.asarray(self.mean, jnp.result_type(float)) if _is_plain(self.mean) else self.mean
        )
        return found.mantissa if isinstance(found, u.Quantity) else found

    def sample_init(self, shape: Any) -> Any:
        """A draw from a Gaussian in constrained space, from the keys of ``brainstate.random``."""
        if self.space == "unconstrained":
            return super().sample_init(shape)
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        return self.mean + self.sd * brainstate.random.randn(*size)


class Smooth(Prior):
    """
    ``strength / 4 sum_ij W_ij ((x_i - x_j) / scale)^2``: neighbours in the connectome have similar values.

    This is ``strength / 2 x' L x`` with the Laplacian ``L = D - W`` of the symmetric part of the weights, which
    are divided by their mean degree, so that `strength` means the same for every connectome.

    Parameters
    ----------
    weights : (region, region) array
        Not negative; the diagonal does not count.
    strength : float
    scale : number or Quantity
        Typical difference of neighbours, in the unit of the parameter.
    """

    LABEL = "the smoothness penalty"

    def __init__(self, weights: Any, strength: float = 1.0, scale: Any = 1.0) -> None:
        super().__init__()
        w = np.asarray(weights, dtype=float)
        if w.ndim != 2 or w.shape[0] != w.shape[1] or not np.isfinite(w).all() or (w < 0).any():
            raise ValueError(
                f"weights of Smooth have shape {w.shape}; give (region, region) weights, none negative"
            )
        w = 0.5 * (w + w.T) * (1.0 - np.eye(len(w)))
        if not w.any():
            raise ValueError("weights of Smooth are all 0; there are no neighbours to be similar to")
        w = w / w.sum(axis=1).mean()
        self.laplacian = jnp.asarray(np.diag(w.sum(axis=1)) - w)
        self.strength, self.scale = _strength(strength), scale

    def loss(self, value: Any) -> Any:
        """See `Prior`."""
        x = self.scaled(value, self.scale)
        if jnp.shape(x)[-1:] != self.laplacian.shape[:1]:
            raise ValueError(
                f"Smooth has {len(self.laplacian)} regions, but the parameter has shape {jnp.shape(x)}; give a field"
            )
        return 0.5 * self.strength * jnp.sum(x * (x @ self.laplacian))


class Homotopic(Prior):
    """
    ``strength / 2 sum_k ((x_left(k) - x_right(k)) / scale)^2``: the two hemispheres have similar values.

    Parameters
    ----------
    left, right : (pair,) arrays of int
        Indices of regions that are each other's counterpart. One (region,) array alone gives the counterpart of
        each region, -1 where there is none.
    strength : float
    scale : number or Quantity
        Typical difference of a pair, in the unit of the parameter.
    """

    LABEL = "the homotopic penalty"

    def __init__(self, left: Any, right: Any = None, strength: float = 1.0, scale: Any = 1.0) -> None:
        super().__init__()
        left, right = _pairs(np.asarray(left)) if right is None else (np.asarray(left), np.asarray(right))
        if left.shape != right.shape or left.ndim != 1 or not len(left):
            raise ValueError(
                f"left has shape {left.shape} and right {right.shape}; give one index a pair in each"
            )
        if left.dtype.kind not in "iu" or right.dtype.kind not in "iu" or min(left.min(), right.min()) < 0:
            raise ValueError("left and right hold the numbers of regions, from 0 on")
        self.left, self.right = left, right
        self.strength, self.scale = _strength(strength), scale

    def loss(self, value: Any) -> Any:
        """See `Prior`."""
        x = self.scaled(value, self.scale)
        most = int(max(self.left.max(), self.right.max()))
        if not jnp.ndim(x) or jnp.shape(x)[-1] <= most:
            raise ValueError(f"Homotopic names region {most}, but the parameter has shape {jnp.shape(x)}")
        return self.strength * _half_squares(x[..., self.left] - x[..., self.right])


class Sparse(Prior):
    """
    ``strength sum(sqrt(z^2 + width^2) - width)`` with ``z = (x - centre) / scale``: few values differ from `centre`.

    The absolute value with a smooth bottom: quadratic within `width` of the centre, so that its gradient is
    defined there.

    Parameters
    ----------
    strength : float
    centre, scale : number, array or Quantity
        In the unit of the parameter.
    width : float
    """

    LABEL = "the sparsity penalty"

    def __init__(
        self, strength: float = 1.0, centre: Any = 0.0, scale: Any = 1.0, width: float = 1e-3
    ) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width is {width}; it must be positive for a gradient at the centre")
        self.strength, self.mean, self.scale, self.width = _strength(strength), centre, scale, width

    def loss(self, value: Any) -> Any:
        """See `Prior`."""
        z = self.scaled(self.off(value, self.mean), self.scale)
        return self.strength * jnp.sum(jnp.sqrt(z * z + self.width**2) - self.width)


def as_prior(prior: Any) -> Any:
    """A prior, a sequence of priors that add up, or None."""
    if isinstance(prior, (list, tuple)):
        return Sum(*prior) if prior else None
    return prior


def _pairs(partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of regions from the counterpart of each."""
    regions = np.arange(len(partner))
    some = regions[partner >= 0]
    for region in some:
        if partner[region] >= len(partner) or partner[partner[region]] != region:
            other = partner[region]
            has = partner[other] if other < len(partner) else "none"
            raise ValueError(f"region {region} has the counterpart {other}, but region {other} has {has}")
    first = some[partner[some] > some]
    return first, partner[first]


def _half_squares(x: Any) -> Any:
    return 0.5 * jnp.sum(x * x)


def _strength(strength: Any) -> Any:
    if not float(strength) >= 0.0:
        raise ValueError(f"strength is {strength}; it must not be negative")
    return strength


def _given(value: Any) -> Any:
    return value.value() if isinstance(value, brainstate.nn.Param) else value


def _is_plain(value: Any) -> bool:
    return not isinstance(value, u.Quantity)
