"""Run a network in time: stochastic realisations, sampled inside the loop."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.models.base import Arrays
from brainloom.network import Network, Structure, step_structure, structure_of

# Heun's real stability limit is 2; half of it keeps the error of the fastest mode small.
STEP_LIMIT = 1.0


class Simulator:
    """
    Simulate a network.

    Parameters
    ----------
    model : Network
    dt : float
        Time step in the unit of the model's rates.
    method : str
        See `brainloom.integrate`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from brainloom.models import HopfStep
    >>> from brainloom.network import Network
    >>> net = Network(HopfStep(2, a=-0.1, w=0.3, noise_x=0.01, noise_y=0.01), jnp.zeros((2, 2)))
    >>> Simulator(net, 0.1).run(10.0, sample_every=1.0, batch_size=3, key=jax.random.key(0))["source"].shape
    (3, 10, 2)
    """

    def __init__(self, model: Network, dt: float, *, method: str = "stochastic_heun") -> None:
        if not dt > 0:
            raise ValueError(f"dt is {dt}; it must be positive")
        self.model, self.dt, self.method = model, float(dt), method

    def run(
        self,
        duration: float,
        *,
        key: jax.Array | None = None,
        sample_every: float | None = None,
        transient: float = 0.0,
        batch_size: int = 1,
        observe: str = "source",
        initial: Arrays | None = None,
    ) -> dict[str, Any]:
        """
        Simulate independent realisations.

        Parameters
        ----------
        duration : float
            Time that is returned, after the transient.
        key : jax.random key, optional
            Needed if a state is noisy. Realisation m at sample s draws from fold_in(fold_in(key, m), s), so
            results depend neither on the batch size nor on the length of the run.
        sample_every : float, optional
            Sampling interval (the repetition time), a multiple of dt; every step if not given.
        transient : float
            Time that is simulated first and dropped.
        batch_size : int
            Realisations.
        observe : str
            Observable of the model.
        initial : dict of arrays, optional
            Start of each state, (region,) or (batch, region); else the model's.

        Returns
        -------
        dict
            ``<observe>`` (batch, time, region); ``ts`` (time,), the time after each sample, from 0 at the
            end of the transient; ``diverged`` (batch,) bool. A diverged realisation holds Inf or NaN.

        Raises
        ------
        ValueError
            The interval is not a multiple of dt, an unknown observable, or no key for a noisy model.
        """
        structure = structure_of(self.model, self.method)
        if observe not in structure.model.OBSERVABLES:
            known = ", ".join(structure.model.OBSERVABLES)
            raise ValueError(f"{structure.model.__name__} has no observable {observe!r}; it has {known}")
        if structure.noisy and key is None:
            raise ValueError("the model has noise; pass key=jax.random.key(seed)")
        interval = self.dt if sample_every is None else float(sample_every)
        n_steps = steps_per_sample(interval, self.dt)
        start = self.model.node.initial_values() if initial is None else initial
        shape = (batch_size, self.model.weights.shape[0])
        start = {k: jnp.broadcast_to(v, shape) for k, v in start.items()}
        n_samples = round(duration / interval)
        samples, finite = _rollout(
            structure,
            n_samples,
            n_steps,
            observe,
            self.model.parameter_values(),
            start,
            jax.random.key(0) if key is None else key,
            round(transient / interval),
            jnp.asarray(interval / n_steps),
        )
        return {
            observe: jnp.swapaxes(samples, 0, 1),
            "ts": interval * np.arange(1, n_samples + 1),
            "diverged": ~finite,
        }


def steps_per_sample(interval: float, dt: float) -> int:
    """
    Number of steps in a sampling interval.

    Raises
    ------
    ValueError
        dt does not divide the interval; the message names the nearest dt that does.
    """
    n_steps = max(1, round(interval / dt))
    if abs(n_steps * dt - interval) > 1e-6 * interval:
        raise ValueError(
            f"dt {dt:g} does not divide the sampling interval {interval:g}; use dt {interval / n_steps:g}"
        )
    return n_steps


def stable_step(dt: float, fastest_rate: float) -> float:
    """
    The step, halved until it resolves the fastest rate (``dt * rate <= 1``), with a warning if it was not.

    Parameters
    ----------
    dt : float
    fastest_rate : float
        Largest |eigenvalue| of the Jacobian, 1/time.
    """
    fine = dt
    while fine * fastest_rate > STEP_LIMIT:
        fine *= 0.5
    if fine < dt:
        warnings.warn(
            f"dt {dt:g} is too long for the fastest rate {fastest_rate:g}; using dt {fine:g}", stacklevel=2
        )
    return fine


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _rollout(
    structure: Structure,
    n_samples: int,
    n_steps: int,
    observe: str,
    params: Arrays,
    start: Arrays,
    key: jax.Array,
    n_transient: jax.Array,
    dt: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Samples (time, batch, region), and which realisations stayed finite."""
    batch_size, n_regions = next(iter(start.values())).shape
    members = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(batch_size))
    n_noisy = len(structure.noisy)

    def sample(state: Arrays, index: jax.Array) -> tuple[Arrays, jax.Array]:
        draws = None
        if n_noisy:
            keys = jax.vmap(lambda member: jax.random.fold_in(member, index))(members)
            draws = jax.vmap(lambda k: jax.random.normal(k, (n_steps, n_noisy, n_regions)))(keys)
            draws = jnp.transpose(draws, (1, 2, 0, 3))

        def step(state: Arrays, k: jax.Array) -> tuple[Arrays, None]:
            noise = None if draws is None else draws[k]
            time = (index * n_steps + k) * dt
            return step_structure(structure, params, state, {}, noise, time, dt)[0], None

        state, _ = jax.lax.scan(step, state, jnp.arange(n_steps))
        return state, structure.model.OBSERVABLES[observe](params, state)

    # fori_loop with a traced bound: another transient compiles nothing new
    state = jax.lax.fori_loop(0, n_transient, lambda index, state: sample(state, index)[0], start)
    _, samples = jax.lax.scan(sample, state, n_transient + jnp.arange(n_samples))
    return samples, jnp.all(jnp.isfinite(samples), axis=(0, 2))
