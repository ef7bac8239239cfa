"""The models that there are, by name, and those of the specification that there are not yet."""

from __future__ import annotations

from typing import NamedTuple

from brainloom.models.base import NeuralMass
from brainloom.models.coombes_byrne import CoombesByrne2DStep, CoombesByrneStep
from brainloom.models.dcm import BilinearDCMStep
from brainloom.models.dumont_gutkin import DumontGutkinStep
from brainloom.models.epileptor import Epileptor2DStep, EpileptorStep
from brainloom.models.epileptor_codim3 import EpileptorCodim3Step
from brainloom.models.fitzhugh_nagumo import FitzHughNagumoStep
from brainloom.models.gast import GastSchmidtKnoscheSDStep, GastSchmidtKnoscheSFStep
from brainloom.models.generic2d import Generic2dOscillatorStep
from brainloom.models.hopf import HopfStep, StuartLandauStep
from brainloom.models.horn import HORNStep
from brainloom.models.jansen_rit import JansenRitStep
from brainloom.models.kuramoto import KuramotoStep
from brainloom.models.larter_breakspear import LarterBreakspearStep
from brainloom.models.linear import LinearStep
from brainloom.models.lorenz import LorenzStep
from brainloom.models.montbrio import MontbrioPazoRoxinStep
from brainloom.models.threshold_linear import ThresholdLinearStep
from brainloom.models.van_der_pol import VanDerPolStep
from brainloom.models.wilson_cowan import (
    WilsonCowanLinearStep,
    WilsonCowanNoSaturationStep,
    WilsonCowanSimplifiedStep,
    WilsonCowanStep,
    WilsonCowanSymmetricStep,
)
from brainloom.models.wilson_cowan_variants import (
    WilsonCowanAdaptiveStep,
    WilsonCowanDelayedStep,
    WilsonCowanDivisiveInputStep,
    WilsonCowanDivisiveStep,
    WilsonCowanThreePopulationStep,
)
from brainloom.models.wong_wang import ReducedWongWangStep, WongWangStep
from brainloom.models.wong_wang_ei import WongWangExcInhStep

MODELS: dict[str, type[NeuralMass]] = {
    model.__name__: model
    for model in (
        HopfStep,
        StuartLandauStep,
        LinearStep,
        ThresholdLinearStep,
        VanDerPolStep,
        FitzHughNagumoStep,
        Generic2dOscillatorStep,
        KuramotoStep,
        WilsonCowanStep,
        WilsonCowanNoSaturationStep,
        WilsonCowanSymmetricStep,
        WilsonCowanSimplifiedStep,
        WilsonCowanLinearStep,
        WilsonCowanDivisiveStep,
        WilsonCowanDivisiveInputStep,
        WilsonCowanDelayedStep,
        WilsonCowanAdaptiveStep,
        WilsonCowanThreePopulationStep,
        JansenRitStep,
        MontbrioPazoRoxinStep,
        GastSchmidtKnoscheSDStep,
        GastSchmidtKnoscheSFStep,
        CoombesByrne2DStep,
        CoombesByrneStep,
        DumontGutkinStep,
        WongWangStep,
        ReducedWongWangStep,
        WongWangExcInhStep,
        EpileptorStep,
        Epileptor2DStep,
        EpileptorCodim3Step,
        LarterBreakspearStep,
        BilinearDCMStep,
        HORNStep,
        LorenzStep,
    )
}

# Published models that brainloom means to have and has not.
ABSENT: dict[str, str] = {
    "JansenRitExtendedStep": "two kinetics, David & Friston 2003",
    "StefanescuJirsaFHNStep": "FitzHugh-Nagumo modes, Stefanescu & Jirsa 2008",
    "HMRStep": "Hindmarsh-Rose modes, Stefanescu & Jirsa 2008",
    "ALNStep": "adaptive exponential cascade, Augustin et al. 2017",
    "ZerlautStep": "conductance-based mean field, Zerlaut et al. 2018",
    "RobinsonStep": "corticothalamic, Robinson et al. 2002",
    "LileyStep": "E-I with reversal potentials, Liley et al. 2002",
}


class ModelInfo(NamedTuple):
    """
    One row of the table of models.

    Attributes
    ----------
    name : str
    category : str
        ``phenomenological``, ``physiological``, ``network``, ``test`` or ``absent``.
    n_state_vars : int
    use_case : str
    """

    name: str
    category: str
    n_state_vars: int
    use_case: str


class ModelTable(list):
    """List of `ModelInfo` that prints as a table."""

    def __repr__(self) -> str:
        rows = [("name", "category", "states", "use"), *((r[0], r[1], str(r[2] or "-"), r[3]) for r in self)]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)) + "  " + row[3]
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)


def get_model(name: str) -> type[NeuralMass]:
    """
    Model class by name.

    Raises
    ------
    KeyError
        The name is not registered; the message lists those that are.
    """
    if name not in MODELS:
        missing = f"; {name} ({ABSENT[name]}) is not built yet" if name in ABSENT else ""
        raise KeyError(f"no model {name!r}{missing}; there are {', '.join(sorted(MODELS))}")
    return MODELS[name]


def list_models(*, absent: bool = True) -> ModelTable:
    """
    Table of the models.

    Parameters
    ----------
    absent : bool
        Also list the published models that brainloom has not got yet.

    Returns
    -------
    ModelTable of ModelInfo
    """
    classes = list(MODELS.values())
    order = ("phenomenological", "physiological", "network", "test")
    found = [ModelInfo(c.__name__, c.CATEGORY, len(c.STATES), c.USE) for c in classes]
    found.sort(key=lambda row: order.index(row.category))
    if absent:
        found += [ModelInfo(name, "absent", 0, what) for name, what in ABSENT.items()]
    return ModelTable(found)
