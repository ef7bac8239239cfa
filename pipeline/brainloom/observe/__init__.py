"""
Streaming observers: what a simulation computes while it runs, without keeping its trajectory.

They are given to ``Simulator.run(observe=[...])``; a new one is a subclass of `Observer`.
"""

from brainloom.observe.average import Sample, TemporalAverage
from brainloom.observe.base import Filter, Observer, Piped
from brainloom.observe.bold import BOLD, BOLDSignal
from brainloom.observe.moments import RunningFC, RunningMoments

__all__ = [
    "BOLD",
    "BOLDSignal",
    "Filter",
    "Observer",
    "Piped",
    "RunningFC",
    "RunningMoments",
    "Sample",
    "TemporalAverage",
]
