"""Every registered model as it is recommended: time step, scheme and noise, in either precision."""

from __future__ import annotations

from typing import Any

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import MODELS, NeuralMass

# isort: split
import jax
import numpy as np

from brainloom.simulate import Simulator
from brainloom.trajectories import Trajectories


def noise_amplitudes(model: type[NeuralMass]) -> dict[str, float]:
    """``noise_<state>`` of the registry: the model's own, or 1 % of each span per square root of its time unit."""
    own = model.NOISE or {s.name: 0.01 * (s.span[1] - s.span[0]) for s in model.STATES}
    return {f"noise_{name}": value for name, value in own.items()}


def scheme(model: type[NeuralMass]) -> str:
    """The recommended integrator of a noisy run."""
    return "stochastic_heun" if model.METHOD == "rk4" else model.METHOD


def minute(model: type[NeuralMass]) -> int:
    """Steps of 60 s; 10^5 where the unit of time is anyone's choice, 10^4 of a map."""
    if model.MAP:
        return 10_000
    if model(1)._time_is_free():
        return 100_000
    return round({"ms": 60_000.0, "s": 60.0}[model.TIME_UNIT] / model.DT)


def simulate(node: NeuralMass, steps: int, every: int, seed: int = 1, **options: Any) -> Trajectories:
    """All states of a run with the recommended step and scheme, sampled every `every` steps."""
    model = type(node)
    return Simulator(node, model.DT, method=scheme(model)).run(
        steps * model.DT,
        sample_every=every,
        monitors=list(model.state_names()),
        key=jax.random.key(seed),
        **options,
    )


def plain(value: Any) -> np.ndarray:
    """Numbers of an array or quantity."""
    return np.asarray(getattr(value, "mantissa", value))


def states(result: Trajectories, model: type[NeuralMass]) -> np.ndarray:
    """Samples of all states as one (time, ..., region, state) array."""
    return np.stack([plain(result[name]) for name in model.state_names()], axis=-1)


__all__ = ["MODELS", "minute", "noise_amplitudes", "plain", "scheme", "simulate", "states"]
