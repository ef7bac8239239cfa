"""
Streaming observers: what a simulation computes while it runs, without keeping its trajectory.

They are given to ``Simulator.run(observe=[...])``; a new one is a subclass of `Observer`.
"""

from brainloom.observe.average import Sample, TemporalAverage
from brainloom.observe.base import Filter, Observer, Piped
from brainloom.observe.bold import BOLD, BOLDSignal
from brainloom.observe.filters import BandPass, GlobalAverage, Subsample
from brainloom.observe.hrf import (
    CanonicalHRFKernel,
    DoubleExponentialHRFKernel,
    FirstOrderVolterraHRFKernel,
    GammaHRFKernel,
    HRFKernel,
    MixtureOfGammasHRFKernel,
)
from brainloom.observe.hrf_bold import HRFBold
from brainloom.observe.lead_field import EEGLeadFieldModel, LeadFieldModel, MEGLeadFieldModel
from brainloom.observe.moments import RunningFC, RunningMoments

__all__ = [
    "BOLD",
    "BOLDSignal",
    "BandPass",
    "CanonicalHRFKernel",
    "DoubleExponentialHRFKernel",
    "EEGLeadFieldModel",
    "Filter",
    "FirstOrderVolterraHRFKernel",
    "GammaHRFKernel",
    "GlobalAverage",
    "HRFBold",
    "HRFKernel",
    "LeadFieldModel",
    "MEGLeadFieldModel",
    "MixtureOfGammasHRFKernel",
    "Observer",
    "Piped",
    "RunningFC",
    "RunningMoments",
    "Sample",
    "Subsample",
    "TemporalAverage",
]
