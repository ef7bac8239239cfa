"""
Trajectories of single models, and gradients through them, against the table of reference values.

The table holds the exact solution. rk4 at the steps below stays under a tenth of each tolerance, found by halving the
step: a wrong equation, unit or order shows.
"""

from __future__ import annotations

import re

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import assert_close, cases, node, one, parameters, plain, time_unit

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import HopfStep, Simulator, get_model

# Step in the time unit of the entry. Wilson-Cowan and the mean fields have a time constant of 1 here.
STEP = {
    "HopfStep": 0.1,
    "StuartLandauStep": 0.1,
    "VanDerPolStep": 0.05,
    "FitzHughNagumoStep": 0.1,
    "Generic2dOscillatorStep": 0.5,
    "LinearStep": 0.01,
    "ThresholdLinearStep": 1e-4,
    "LorenzStep": 0.0025,  # chaotic: errors grow by a factor of 90 until t = 5
    "JansenRitStep": 5e-4,
    "MontbrioPazoRoxinStep": 0.01,  # 40 time constants of oscillation
    "CoombesByrne2DStep": 0.05,
    "WongWangStep": 5e-3,
    "ReducedWongWangStep": 5e-3,
    "WongWangExcInhStep": 5e-4,
    "EpileptorStep": 0.025,
    "LarterBreakspearStep": 0.05,
}
WILSON_COWAN = 0.05


def step(entry):
    return STEP.get(entry["model"], WILSON_COWAN if "WilsonCowan" in entry["model"] else None)


@pytest.mark.parametrize("entry", cases("trajectory"))
def test_trajectory(entry):
    model, unit, dt = get_model(entry["model"]), time_unit(entry), step(entry)
    rows = entry["expected"]
    states = [name for name in rows[0] if name in model.state_names()]
    monitors = [*states, "r1", "r2"] if "decision" in rows[0] else states
    found = Simulator(node(entry), dt * unit, method="rk4").run(
        rows[-1]["t"] * unit, inputs=entry.get("inputs"), monitors=monitors, check=False
    )
    times = np.asarray(found["ts"].to_decimal(unit))
    at = [int(np.argmin(np.abs(times - row["t"]))) for row in rows]
    np.testing.assert_allclose(times[at], [row["t"] for row in rows], rtol=1e-9)
    for name in states:
        expected = np.array([row[name] for row in rows])
        x = np.asarray(plain(found[name], model, name))[at, 0]
        assert_close(x, expected, entry["tolerance"], np.abs(expected).max(), name)
    if "decision" in rows[0]:
        wins = np.where(found["r1"][at, 0] > found["r2"][at, 0], 1, 2)
        np.testing.assert_array_equal(wins, [row["decision"] for row in rows])


@pytest.mark.parametrize("entry", cases("gradient", having="wrt"))
def test_gradient_of_a_state(entry):
    model, unit, wrt = get_model(entry["model"]), time_unit(entry), entry["wrt"]
    # "E(5 ms)" is a state; the difference of two is the potential of Jansen and Rit
    name = re.match(r"\w+(-\w+)?", entry["observable"])[0].replace("y1-y2", "potential")

    # Heun has half of the stages to differentiate and compile; at 0.5 ms it is good to 3e-7
    method = "heun" if entry["model"] == "WongWangExcInhStep" else "rk4"

    def last(value):
        simulator = Simulator(node(entry, **{wrt: value}), step(entry) * unit, method=method)
        found = simulator.run(entry["t"] * unit, monitors=[name], remat=False)[name]
        return plain(found, model, name)[-1, 0]

    value, gradient = jax.jit(jax.value_and_grad(last))(parameters(entry)[wrt])
    expected, tolerance = entry["expected"], entry["tolerance"]
    np.testing.assert_allclose(value, expected["value"], rtol=tolerance["rtol_value"])
    np.testing.assert_allclose(gradient, expected["gradient"], rtol=tolerance["rtol_gradient"])


@pytest.mark.parametrize("entry", one("hopf_amplitude_loss_exact"))
def test_gradient_of_a_settled_amplitude(entry):
    def loss(a):
        node = HopfStep(1, a=a, w=0.3, init_x=0.5, init_y=0.0)
        x = Simulator(node, 0.1, method="rk4").run(400.0, monitors=["x"], transient=200.0)["x"]
        amplitude = jnp.sqrt(2.0 * jnp.mean(x**2))
        return (amplitude - 1.0) ** 2, amplitude

    (value, amplitude), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(0.4)
    expected, tolerance = entry["expected"], entry["tolerance"]
    np.testing.assert_allclose(amplitude, expected["amplitude"], rtol=tolerance["rtol"])
    np.testing.assert_allclose(value, expected["loss"], rtol=tolerance["rtol"])
    np.testing.assert_allclose(gradient, expected["grad"], rtol=tolerance["rtol_gradient"])
