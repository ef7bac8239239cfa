"""Search of the analytic stage by any backend of `Fitter`, in the form of `brainloom.fit.optimise.fit_starts`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.fit.predict import objective

# isort: split
import jax.numpy as jnp
import numpy as np
import optax

from brainloom.fit.coordinates import Coordinates, theta_of
from brainloom.fit.fitter import Fitter
from brainloom.fit.optimise import Fits, fit_starts
from brainloom.fit.problem import FitSetup, Problem
from brainloom.fit.trainable import StartError

# Step of Adam and first standard deviation of a population, in log units of the parameters.
RATE, SPREAD = 0.05, 0.2
CHOICES: dict[str, tuple[str, Any]] = {
    "adam": ("grad", lambda: optax.adam(RATE)),
    "scipy": ("scipy", lambda: None),
    "cmaes": ("cmaes", lambda: {"sd": SPREAD}),
    "nevergrad": ("nevergrad", lambda: {"sd": SPREAD}),
}


def search_starts_by(
    backend: str, setup: FitSetup, problem: Problem, starts: jax.Array, n_starts: int, max_steps: int
) -> Fits:
    """
    Minimise the objective of the analytic stage from every start.

    Parameters
    ----------
    backend : str
        ``lbfgs``, which runs all starts in one program, or one of `CHOICES`.
    setup : FitSetup
    problem : dict of arrays
    starts : (start, size) array
    n_starts : int
        How many of them to use; the others return NaN.
    max_steps : int
        Evaluations of the gradient, iterations (scipy), or generations (populations).

    Returns
    -------
    Fits
        With other backends than ``lbfgs`` the history is the lowest objective so far, at most `max_steps` of them.
    """
    if backend == "lbfgs":
        return fit_starts(setup, problem, starts, n_starts, max_steps)
    theta, history = np.full(starts.shape, np.nan), np.full((len(starts), max_steps), np.nan)
    loss, n_steps = np.full(len(starts), np.nan), np.zeros(len(starts), int)
    converged = np.zeros(len(starts), bool)
    kind, optimizer = CHOICES[backend]
    at = partial(objective, setup, problem)

    @jax.custom_vjp
    def value(theta: jax.Array) -> jax.Array:
        return at(theta)

    # kernels of covariances hold arrays of the trace that made them, so the derivative is taken in the same one
    value.defvjp(jax.value_and_grad(at), lambda slope, factor: (factor * slope,))
    for k in range(n_starts):
        fitter = Fitter(
            Coordinates(starts[k]),
            optimizer(),
            loss_fn=lambda model: value(theta_of(model)),
            backend=kind,
        )
        theta[k] = starts[k]
        try:
            found = fitter.fit(n_steps=max_steps, key=jax.random.key(k))
        except StartError:  # not finite where it starts
            continue
        theta[k], loss[k] = np.asarray(found.best_params["theta"]), float(found.best_loss)
        lowest = np.minimum.accumulate(np.where(np.isfinite(found.history), found.history, np.inf))
        if len(lowest) > max_steps:  # a population, or the line searches of scipy
            lowest = lowest[np.linspace(0, len(lowest) - 1, max_steps).round().astype(int)]
        history[k, : len(lowest)] = lowest
        n_steps[k], converged[k] = len(lowest), found.converged
    dtype = starts.dtype
    return Fits(
        jnp.asarray(theta, dtype),
        jnp.asarray(history, dtype),
        jnp.asarray(loss, dtype),
        jnp.asarray(n_steps),
        jnp.asarray(converged),
    )
