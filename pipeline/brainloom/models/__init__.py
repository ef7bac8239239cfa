"""Neural mass models, one file a family, and their registry."""

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Observable, Parameter, Port, State
from brainloom.models.hopf import HopfStep
from brainloom.models.linear import LinearStep

REGISTRY: dict[str, type[NeuralMass]] = {model.__name__: model for model in (HopfStep, LinearStep)}


def get_model(name: str) -> type[NeuralMass]:
    """
    Model class by name.

    Raises
    ------
    KeyError
        The name is not registered; the message lists those that are.
    """
    if name not in REGISTRY:
        raise KeyError(f"no model {name!r}; there are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]


__all__ = ["REGISTRY", "HopfStep", "LinearStep", "NeuralMass", "Observable", "Parameter", "Port", "State", "get_model"]
