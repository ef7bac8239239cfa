"""
Networks, with and without delays, and gradients in delays, against the table of reference values.

rk4 with the coupling evaluated at every stage: at 0.1 ms errors are below a fiftieth of each tolerance, with delays
(interpolated linearly, second order) too.
"""

from __future__ import annotations

import re

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import assert_close, cases, node, plain, time_unit

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import Network, Simulator, get_model, lower

# What an entry says in words beside its gain: "tanh: k*tanh(2*sum)".
SHAPE = {"tanh": {"scale": 2.0}}
# "additive r" is dimensionless in units of tau, which is 1 there.
SENT = {"r": "rate_tau"}


def coupling(entry):
    """The coupling of an entry as arguments of a network."""
    how = entry["coupling"]
    if isinstance(how, dict):
        given = {key: value for key, value in how.items() if key not in ("type", "gain")}
        return {"coupling": how["type"], "k": how["gain"], **SHAPE.get(how["type"], {}), **given}
    said = re.search(r"gain (?P<gain>[\d.]+), port (?P<port>\w+)", how)
    port = {"k": float(said["gain"]), "port": said["port"]}
    if how.startswith("additive"):
        source = how.split()[1].strip(",")
        return {"coupling": "additive", "coupled_var": SENT.get(source, source), **port}
    assert how.startswith("source 5/s/(1+exp(.56(6 mV-(y1-y2))))")
    return {"coupling": "sigmoidal_jansen_rit", "coupled_var": "potential", **port}


def network(entry):
    n = len(next(iter(entry["initial_state"].values())))
    delay = np.broadcast_to(entry["delay_ms"], (n, n)) * u.ms if "delay_ms" in entry else None
    return Network(
        node(entry, n), np.asarray(entry.get("W", np.ones((n, n)))), delay=delay, **coupling(entry)
    )


def check(entry, times, found):
    """States at the times of an entry; `found` maps states to (time, region) arrays."""
    rows = entry["expected"]
    at = [int(np.argmin(np.abs(times - row["t"]))) for row in rows]
    np.testing.assert_allclose(times[at], [row["t"] for row in rows], rtol=1e-9)
    for name, value in found.items():
        expected = np.array([row[name] for row in rows], float)
        assert_close(np.asarray(value)[at], expected, entry["tolerance"], np.abs(expected).max(), name)


@pytest.mark.parametrize(
    "entry", [case for case in cases("network") if case.values[0].get("history") != "zero"]
)
def test_network(entry):
    model = get_model(entry["model"])
    names = list(entry["initial_state"])
    found = Simulator(network(entry), 0.1 * u.ms, method="rk4").run(
        entry["expected"][-1]["t"] * time_unit(entry), monitors=names, check=False
    )
    times = np.asarray(found["ts"].to_decimal(time_unit(entry)))
    check(entry, times, {name: plain(found[name], model, name) for name in names})


@pytest.mark.parametrize(
    "entry", [case for case in cases("network") if case.values[0].get("history") == "zero"]
)
def test_network_with_a_given_history(entry):
    # The history before t = 0 is zero and jumps to the initial state. Interpolation smears the jump over one step, half of
    # which arrives too early: 1.3e-5 at this step.
    dt, end = 5e-4, entry["expected"][-1]["t"]
    low = lower(network(entry), dt * u.ms, "rk4")
    start = low.init(low.params)
    kept = jnp.zeros_like(start["history.source"]).at[:, -1].set(start["x"])  # (region, sample), newest last
    steps = round(end / dt)
    quiet = jnp.zeros((steps, *low.noise_shape))
    _, found = jax.jit(low.advance)(low.params, start | {"history.source": kept}, {}, quiet)
    rows = [{"t": row["t"], "x": [row["x1"], row["x2"]]} for row in entry["expected"]]
    check(entry | {"expected": rows}, dt * np.arange(1, steps + 1), {"x": found["x"]})


@pytest.mark.parametrize("entry", cases("gradient", having="delay"))
def test_gradient_in_delay_and_gain(entry):
    how, delay = entry["coupling"], entry["delay"]
    length = delay * np.ones((2, 2))
    # a trainable speed needs bounds: they say how much history is kept
    speed = brainstate.nn.Param(1.0, t=brainstate.nn.SigmoidT(0.5, 2.0), fit=True)
    pair = Network(
        node(entry, 2, init_theta=np.zeros(2)),
        np.asarray(entry["W"], float),
        distance=length,
        speed=speed,
        coupling=how["type"],
        k=brainstate.nn.Param(how["gain"], fit=True),
        divide_by_n=how["divide_by_n"],
    )
    # what is interpolated between samples of the history is the sine and cosine of the phase: an error of dt^2, in the
    # frequency 1.4e-6 at this step
    dt, end = 0.01, 80.0
    low = lower(pair, dt, "rk4")
    quiet = jnp.zeros((round(end / dt), *low.noise_shape))

    def frequency(delay, gain):
        changed = {"speed": speed.t.inverse(entry["delay"] / delay), "coupling.k": gain}
        params = low.params | changed
        theta = low.advance(params, low.init(params), {}, quiet)[1]["theta"][:, 0]
        first = round(0.8 * end / dt)
        return (theta[-1] - theta[first - 1]) / (0.2 * end)

    found, slopes = jax.jit(jax.value_and_grad(frequency, (0, 1)))(delay, how["gain"])
    expected, tolerance = entry["expected"], entry["tolerance"]
    np.testing.assert_allclose(found, expected["Omega"], rtol=0, atol=tolerance["atol"])
    wanted = [expected["dOmega_dtau"], expected["dOmega_dG"]]
    np.testing.assert_allclose(slopes, wanted, rtol=0, atol=tolerance["atol_gradient"])
