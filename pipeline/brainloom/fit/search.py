"""Search of the analytic stage by the other backends of `Fitter`, one start after the other."""

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
from brainloom.fit.predictors import Fits
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
    backend: str, setup: FitSetup, problem: Problem, starts: jax.Array, max_steps: int, key: jax.Array
) -> Fits:
    """
    Minimise the objective of the analytic stage from every start.

    L-BFGS is not among the choices: `brainloom.cohort.batch.fit_batch` runs it for many subjects at once.

    Parameters
    ----------
    backend : str
        One of `CHOICES`.
    setup : FitSetup
    problem : dict of arrays
    starts : (start, size) array
    max_steps : int
        Evaluations of the gradient, iterations (scipy), or generations (populations).
    key : jax.random key
        Of the draws of populations.

    Returns
    -------
    Fits
        The history is the lowest objective so far, at most `max_steps` of them.
    """
    theta, history = np.array(starts), np.full((len(starts), max_steps), np.nan)
    loss, n_steps = np.full(len(starts), np.nan), np.zeros(len(starts), int)
    converged = np.zeros(len(starts), bool)
    kind, optimizer = CHOICES[backend]
    value = partial(objective, setup, problem)
    for k, start in enumerate(starts):
        fitter = Fitter(
            Coordinates(jnp.asarray(start)),
            optimizer(),
            loss_fn=lambda model: value(theta_of(model)),
            backend=kind,
        )
        try:
            found = fitter.fit(n_steps=max_steps, key=jax.random.fold_in(key, k))
        except StartError:  # not finite where it starts
            continue
        theta[k], loss[k] = np.asarray(found.best_params["theta"]), float(found.best_loss)
        lowest = np.minimum.accumulate(np.where(np.isfinite(found.history), found.history, np.inf))
        if len(lowest) > max_steps:  # a population, or the line searches of scipy
            lowest = lowest[np.linspace(0, len(lowest) - 1, max_steps).round().astype(int)]
        history[k, : len(lowest)] = lowest
        n_steps[k], converged[k] = len(lowest), found.converged
    return Fits(theta, history, loss, n_steps, converged)
