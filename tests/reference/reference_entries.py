"""The table of reference values (models.json) and the models that its entries describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import NeuralMass, Observable, Port, State, get_model
from brainloom.models.declare import port

# isort: split
import brainunit as u
import numpy as np
import pytest

TABLE = json.loads((Path(__file__).parent / "models.json").read_text())
ENTRIES: dict[str, dict] = {entry["id"]: entry for entry in TABLE["entries"]}

# Fixed points and trajectories of what is no model; they have a test file of their own.
APART = ("BalloonWindkessel",)

# All values that an entry uses are among its parameters: where it names no background, it has none.
_UNNAMED = {"ThresholdLinearStep": {"background_e": 0.0, "background_i": 0.0}}


def cases(*kinds: str, having: str = "", model: str = "", without: str = "") -> list[Any]:
    """Entries of some kinds as test parameters; with or without a field, or about one model."""
    found = [e for e in ENTRIES.values() if e["kind"] in kinds and e["model"] not in APART]
    found = [e for e in found if (not having or having in e) and (not model or model in e["model"])]
    return [pytest.param(e, id=e["id"]) for e in found if not without or without not in e]


def one(name: str) -> list[Any]:
    """One entry as a test parameter."""
    return [pytest.param(ENTRIES[name], id=name)]


def time_unit(entry: dict) -> Any:
    """Unit of the times of an entry."""
    return u.second if entry.get("time_unit", "ms").split()[0] == "s" else u.ms


def parameters(entry: dict) -> dict[str, Any]:
    """Parameters as the model takes them: times of an entry in s become quantities where the model counts in ms."""
    model = get_model(entry["model"])
    seconds = time_unit(entry) == u.second and model.TIME_UNIT == "ms"
    times = {p.name for p in model.PARAMETERS if p.unit == "ms"} if seconds else set()
    given = _UNNAMED.get(entry["model"], {}) | entry.get("parameters", {})
    return {name: np.asarray(v) * u.second if name in times else v for name, v in given.items()}


def node(entry: dict, n_regions: int = 1, **changes: Any) -> NeuralMass:
    """The model of an entry, with its parameters and initial state (a dict, or a list in the order of the states)."""
    model = get_model(entry["model"])
    start = entry.get("initial_state", {})
    start = start if isinstance(start, dict) else dict(zip(model.state_names(), start, strict=True))
    given = parameters(entry) | {f"init_{name}": np.asarray(v, float) for name, v in start.items()}
    return model(n_regions, **(given | changes))


def plain(found: Any, model: type[NeuralMass], name: str) -> Any:
    """A result of a simulation as plain numbers in the unit of the table, that of the equations."""
    unit = model.observables()[name].unit.replace("time", model.TIME_UNIT)
    return found.to_decimal(u.parse_unit(unit)) if isinstance(found, u.Quantity) else found


def assert_close(found: Any, expected: Any, tolerance: dict, scale: float, message: str = "") -> None:
    """Within ``atol + rtol max(|value|, 1e-3 scale)``: `scale` is the largest value of the variable in the entry."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    size = np.maximum(np.abs(expected), 1e-3 * scale)
    limit = tolerance.get("atol", 0.0) + tolerance.get("rtol", 0.0) * size
    assert found.shape == expected.shape, message
    assert (np.abs(found - expected) <= limit).all(), (message, found, expected, limit)


class Carrier(NeuralMass):
    """
    A constant state x with one port, and what arrives there as an observable.

    It makes the values of couplings and noise signals visible to a simulation.
    """

    STATES = (State("x", 0.0),)
    PORTS = (Port("arriving", "1/time", "x"),)
    OBSERVABLES: ClassVar = {
        "arriving": Observable(lambda p, s, i: port(i, "arriving"), "1/time", driven=True)
    }

    @staticmethod
    def rhs(params: dict, state: dict, inputs: dict, t: Any) -> dict:
        """See `NeuralMass.rhs`."""
        return {"x": 0.0 * state["x"]}
