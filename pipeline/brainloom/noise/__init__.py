"""Noise: counter-based random increments, and the processes that they drive."""

from brainloom.noise.base import NoiseProcess
from brainloom.noise.coloured import BlueNoise, BrownNoise, ColouredNoise, PinkNoise, VioletNoise
from brainloom.noise.counter import increments, key_words
from brainloom.noise.processes import (
    BrownianNoise,
    MultiplicativeNoise,
    OUProcess,
    WhiteNoise,
    sigma_from_rate,
    sigma_from_scaled_time,
    sigma_from_time_constant,
    sigma_from_variance_rate,
)

__all__ = [
    "BlueNoise",
    "BrownNoise",
    "BrownianNoise",
    "ColouredNoise",
    "MultiplicativeNoise",
    "NoiseProcess",
    "OUProcess",
    "PinkNoise",
    "VioletNoise",
    "WhiteNoise",
    "increments",
    "key_words",
    "sigma_from_rate",
    "sigma_from_scaled_time",
    "sigma_from_time_constant",
    "sigma_from_variance_rate",
]
