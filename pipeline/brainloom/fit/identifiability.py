"""Errors and identifiability of any fit, from the derivatives that the fit itself uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from brainloom.core.errors import BrainloomError
from brainloom.fit.curvature import METHODS, Problem
from brainloom.fit.evaluate import typed
from brainloom.fit.identification import Identification
from brainloom.fit.laplace import inverse, spectrum, with_prior
from brainloom.fit.readout import Errors, estimates, labels_of, natural_scales, slices
from brainloom.objectives.information import is_likelihood

_WHERE = "the errors of a loss that is no likelihood"


class IdentifyError(BrainloomError, ValueError):
    """Errors cannot be said from what is given; the sentence says what is missing."""


def identify(
    fitter: Any,
    target: Any = None,
    *,
    result: Any = None,
    method: str = "hessian",
    errors: Any = None,
    replicates: Sequence[Any] | None = None,
    share: float = 1.0,
    n_replicates: int = 0,
    prior_sd: float | Mapping[str, float] | None = None,
    level: float = 0.9,
    key: jax.Array | None = None,
    n_seeds: int = 0,
    regions: Sequence[str] | None = None,
    chunk: int = 8,
) -> Identification:
    r"""
    What the data say of every parameter, at the present parameters of the model, where `Fitter.fit` leaves them.

    With the curvature H of the data's part of the loss and P of the priors, in the unconstrained space:

    - The loss is a negative log-likelihood: the covariance is ``(H + P)^-1``, the Laplace approximation of the
      posterior.
    - Any other loss: an estimate errs by ``(H + P)^-1 g``, where the gradient g changes with the sampling of the data.
      With its covariance V over replicates of the data, the covariance is ``(H + P)^-1 (V + P) (H + P)^-1``: sampling,
      and what the penalty pulls parameters away from truths that spread as it says.

    Parameters
    ----------
    fitter : Fitter
    target : pytree of arrays, optional
        The target of the fit; none for a ``loss_fn``.
    result : FitResult, optional
        The fit whose noise is used; the last one of the fitter if not given.
    method : {"hessian", "gauss_newton"}
        Exact second derivatives; or the expected information of a likelihood (with other objectives, ``J' H J`` of
        prediction and objective), which is never negative, and needs first derivatives of the model only.
    errors : {"likelihood", "replicates"} or (size, size) array, optional
        Where errors come from; found from the objective if not given. ``"likelihood"`` says that a function of your
        own is a negative log-likelihood. An array is V, the covariance of the gradient.
    replicates : sequence of targets, optional
        Data as the target could have been: surrogates, other runs, or parts of it.
    share : float
        How much of the data of the target one replicate holds: 0.25 for its quarters.
    n_replicates : int
        Replicates to draw from the model: predictions with fresh noise.
    prior_sd : float or mapping of name to float, optional
        Standard deviation of parameters without a prior, in unconstrained space (0.5 is about 50 % of a positive
        parameter), around the estimate. It counts as if it were in the loss.
    level : float
        Of the intervals.
    key : jax.random key, optional
        Of replicates and seeds; drawn from ``brainstate.random`` if not given.
    n_seeds : int
        Fresh noise seeds of a stochastic loss, for what they add to the error: the covariance of the gradient over
        seeds, divided by the number of realisations of the fit, between two inverses of the curvature.
    regions : sequence of str, optional
        Names of regions for labels.
    chunk : int
        Directions that are differentiated at once; more need more memory.

    Returns
    -------
    Identification

    Raises
    ------
    IdentifyError
        The loss is no likelihood and there are no replicates; a parameter of `prior_sd` is not known or has a prior.

    References
    ----------
    White 1982, Econometrica 50:1 (errors of a loss that is no likelihood). Transtrum, Machta and Sethna 2011,
    Physical Review E 83:036701 (sloppy directions).

    Examples
    --------
    >>> import brainstate, jax.numpy as jnp
    >>> from brainloom import Fitter, objectives
    >>> class Gain(brainstate.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gain = brainstate.nn.Param(2.0)
    >>> signal = jnp.ones((100, 1))
    >>> fitter = Fitter(Gain(), predict=lambda model: model.gain.value() * signal, objective=objectives.gaussian(0.5))
    >>> found = fitter.identify(2.0 * signal)
    >>> round(float(found.estimates["gain"].sd), 4)  # 0.5 / sqrt(100)
    0.05
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(map(repr, METHODS))}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it must be between 0 and 1")
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk is {chunk}; it is a number of directions")
    if n_seeds and n_seeds < 2:
        raise ValueError(f"n_seeds is {n_seeds}; a variance needs at least 2")
    kind = _kind_of_errors(fitter, errors, replicates, n_replicates)
    seeds = fitter.seeds if result is None else result.seeds
    problem = Problem(fitter, target, seeds)
    data, prior, notes = problem.curvature(method, chunk)
    itemsize = problem.vector.dtype.itemsize
    size = len(problem.at)
    if not (np.isfinite(data).all() and np.isfinite(prior).all()):
        raise IdentifyError(
            "the second derivatives of the loss are not finite at the parameters of the model; try "
            "method='gauss_newton', or fit from another start"
        )
    natural = natural_scales(problem.trainable, problem.at)
    own = inverse(prior, np.ones(size), itemsize)
    no_prior = own.unbounded(np.ones(size))
    given = _given_variance(problem, prior_sd, no_prior)
    held = np.isfinite(given)
    prior_covariance = own.root @ own.root.T + np.diag(np.where(held, given, 0.0))
    no_prior = no_prior & ~held
    prior_scale = np.sqrt(np.maximum(np.diag(prior_covariance), 0.0))
    scale = np.where(no_prior, np.where(np.isnan(natural), 1.0, natural), prior_scale)

    extra = np.diag(np.where(held, 1.0 / np.where(held, given, 1.0), 0.0))
    likelihood = kind == "likelihood"
    total = data + prior + (extra if likelihood else 0.0)
    back = inverse(total, scale, itemsize)
    unbounded = back.unbounded(scale)
    if likelihood:
        covariance = back.root @ back.root.T
    else:
        spread = _gradient_covariance(problem, errors, replicates, share, n_replicates, key, notes)
        pulled = prior if np.linalg.eigvalsh(prior).min(initial=0.0) >= 0.0 else 0.0
        covariance = back.apply(back.apply(spread + pulled).T)
        covariance, unbounded = with_prior(covariance, unbounded, given)
    free = back.free[
        :, [bool(unbounded[np.abs(one) > 1e-3 * np.abs(one).max()].any()) for one in back.free.T]
    ]
    by_seeds = None
    if n_seeds:
        by_seeds = _seed_covariance(problem, n_seeds, key, back)
    known = Errors(covariance, unbounded, free, prior_covariance, no_prior, by_seeds)
    sd = known.sd()
    with np.errstate(invalid="ignore"):
        step = np.where(np.isfinite(sd) & (sd > 0.0), back.apply(-problem.gradient()) / sd, np.nan)
    shown = np.where(np.logical_or.outer(unbounded, unbounded), np.nan, covariance)
    shown[np.diag_indices(size)] = sd**2
    return Identification(
        estimates=estimates(
            problem.trainable, problem.at, known, natural, float(norm.ppf(0.5 + 0.5 * level)), regions
        ),
        coefficients=[
            label
            for (name, _, _), shape in zip(slices(problem.trainable), problem.trainable.shapes, strict=True)
            for label in labels_of(name, shape, regions)
        ],
        theta=problem.at,
        step=step,
        information=data,
        prior=prior + extra,
        covariance=shown,
        scale=scale,
        spectrum=spectrum(data, scale, likelihood, itemsize),
        seeds=by_seeds,
        level=level,
        method=method,
        errors=kind,
        negative=back.negative,
        notes=notes,
    )


def _kind_of_errors(fitter: Any, errors: Any, replicates: Any, n_replicates: int) -> str:
    """``"likelihood"``, ``"replicates"`` or ``"covariance"``."""
    known = None if fitter.loss_fn is not None else is_likelihood(fitter.objective)
    name = getattr(fitter.objective, "__name__", repr(fitter.objective))
    name = "loss_fn" if fitter.loss_fn is not None else name.replace("<lambda>", "the objective")
    if isinstance(errors, str):
        if errors not in ("likelihood", "replicates"):
            raise ValueError(
                f"errors is {errors!r}; it must be 'likelihood', 'replicates' or the covariance of the gradient"
            )
        if errors == "likelihood" and known is False:
            raise IdentifyError(
                f"{name} is no likelihood, so its curvature says nothing of errors; use errors='replicates' with "
                "replicates=[targets] or n_replicates="
            )
        kind = errors
    elif errors is not None:
        return "covariance"
    elif replicates is not None or n_replicates:
        kind = "replicates"
    elif known:
        return "likelihood"
    else:
        doubt = "is no likelihood" if known is False else "may be any function"
        also = "" if known is False else ", or errors='likelihood' if it is a negative log-likelihood"
        raise IdentifyError(
            f"{name} {doubt}, so errors need more than its curvature: give replicates=[targets], n_replicates= to draw "
            f"them from the model, or errors= the covariance of the gradient{also}"
        )
    if kind == "replicates":
        if fitter.loss_fn is not None:
            raise IdentifyError(
                "a loss_fn holds its own data, so it cannot be held against replicates; use predict and objective"
            )
        if replicates is None and not n_replicates:
            raise IdentifyError(f"{_WHERE} need replicates: give replicates=[targets] or n_replicates=")
    return kind


def _given_variance(problem: Problem, prior_sd: Any, no_prior: np.ndarray) -> np.ndarray:
    """Variance of `prior_sd` for each coordinate; infinite where there is none."""
    found = np.full(len(no_prior), np.inf)
    if prior_sd is None:
        return found
    named = isinstance(prior_sd, Mapping)
    places: dict[str, list[slice]] = {}
    for name, place, _ in slices(problem.trainable):
        places.setdefault(name, []).append(place)
    if named:
        unknown = sorted(set(prior_sd) - set(places))
        if unknown:
            raise IdentifyError(
                f"prior_sd names {', '.join(unknown)}; the fitted parameters are {', '.join(places)}"
            )
    for name in prior_sd if named else places:
        sd = prior_sd[name] if named else prior_sd
        if not (np.asarray(sd, float) > 0.0).all():
            raise IdentifyError(f"prior_sd of {name} is {sd}; it must be positive")
        for place in places[name]:
            if named and not no_prior[place].any():
                raise IdentifyError(f"{name} has a prior in the loss; leave it out of prior_sd")
            found[place] = np.where(
                no_prior[place], np.broadcast_to(np.ravel(sd), no_prior[place].shape) ** 2, np.inf
            )
    return found


def _gradient_covariance(
    problem: Problem, errors: Any, replicates: Any, share: float, n: int, key: Any, notes: list[str]
) -> np.ndarray:
    """Covariance of the gradient over the sampling of the data."""
    size = len(problem.at)
    if errors is not None and not isinstance(errors, str):
        found = np.asarray(errors, float)
        if found.shape != (size, size) or not np.allclose(found, found.T, rtol=1e-4, atol=0.0):
            raise IdentifyError(
                f"errors has shape {found.shape}; the covariance of the gradient is symmetric, {(size, size)}"
            )
        return found
    if not share > 0.0:
        raise ValueError(f"share is {share}; it must be positive")
    if replicates is None:
        if problem.loss.key_place is None:
            raise IdentifyError(
                "the prediction draws nothing from brainstate.random, so no replicates can be drawn from it; give "
                "replicates=[targets]"
            )
        replicates, share = problem.drawn(_keys(key, n, 0)), 1.0
        loss = problem.of_target(jax.tree.map(lambda x: x[0], replicates))
    else:
        n = len(replicates)
        if n < 2:
            raise IdentifyError(f"there is {n} replicate; a covariance needs at least 2")
        loss = problem.of_target(replicates[0])
        try:
            replicates = jax.tree.map(lambda *each: jnp.stack([jnp.asarray(x) for x in each]), *replicates)
        except (TypeError, ValueError) as error:
            raise IdentifyError(
                "replicates have different shapes; give targets that are all alike"
            ) from error
    slopes = problem.slopes(loss, replicates, "target")
    if not np.isfinite(slopes).all():
        raise IdentifyError("the gradient of the loss is not finite for some replicates; leave them out")
    notes.append(
        f"{n} replicates: the errors are known to about {100.0 / np.sqrt(2.0 * (n - 1)):.0f} %"
        + ("." if n > size else f", and the {size} numbers have joint errors in at most {n - 1} directions.")
    )
    return share * np.cov(slopes.T).reshape(size, size)


def _seed_covariance(problem: Problem, n: int, key: Any, back: Any) -> np.ndarray:
    loss = problem.loss
    if loss.key_place is None:
        raise IdentifyError(
            "the loss draws nothing from brainstate.random, so it has no seeds; leave n_seeds out"
        )
    slopes = problem.slopes(loss, _keys(key, n, 1), "key")
    spread = np.cov(slopes.T).reshape(len(problem.at), -1) / max(1, len(loss.seeds))
    return back.apply(back.apply(spread).T)


def _keys(key: Any, n: int, number: int) -> jax.Array:
    key = typed(brainstate.random.split_key() if key is None else key)
    return jax.random.split(jax.random.fold_in(key, number), n)
