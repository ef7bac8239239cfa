"""Entries of the table about haemodynamic response functions."""

from __future__ import annotations

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import assert_close, cases

# isort: split
import brainunit as u
import numpy as np
import pytest

from brainloom import observe


@pytest.mark.parametrize("entry", cases("hrf"))
def test_kernel(entry):
    kernel = getattr(observe, entry["model"] + "Kernel")(**entry["parameters"])
    expected, tolerance = entry["expected"], entry["tolerance"]
    assert kernel.duration == 20.0, "the integral of the table"
    fine = np.arange(0.0, 20.0005, 0.001) * u.second
    values = np.asarray(kernel(fine))
    assert_close(kernel(expected["t_s"] * u.second), expected["h"], tolerance, values.max())
    # the table looked for the peak on a grid of a few ms: it gives 0.800 for 0.8017
    np.testing.assert_allclose(fine[values.argmax()].to_decimal(u.second), expected["t_peak_s"], atol=2e-3)
    wanted = expected["integral_0_20s"]
    np.testing.assert_allclose(np.trapezoid(values, dx=0.001), wanted, rtol=tolerance["rtol_integral"])
    # the gain of BOLD is the integral
    bold = observe.HRFBold(k_1=1.0, V_0=1.0, kernel=kernel, downsample_period=20 * u.ms)
    found = bold(np.ones((2000, 1)), 20 * u.ms)
    np.testing.assert_allclose(found[-1, 0], wanted, rtol=tolerance["rtol_integral"])
