"""What a coupling sends through a delayed network, and Laplacians, against the table of reference values."""

from __future__ import annotations

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import Carrier, cases

# isort: split
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import Network, lower
from brainloom.coupling import laplacian

# Constants that an entry states in words.
KERNELS = {
    "kernel_diffusive": {"coupling": "diffusive", "k": 0.7},
    "kernel_additive": {"coupling": "additive", "k": 0.7, "b": 0.05},
    "kernel_tanh": {"coupling": "tanh", "k": 0.5, "scale": 2.0},
    "kernel_kuramoto": {"coupling": "kuramoto", "k": 0.7, "alpha": 0.2},
}


@pytest.mark.parametrize("entry", cases("kernel", model="coupling"))
def test_coupling_of_delayed_sources(entry):
    given = entry["inputs"]
    seen, own = np.array(given["x_source_as_seen_by_target"]), np.array(given["y_target"])
    # Target i reads every source 2 (i + 1) steps back. A history in which the sources had the values of row i there
    # shows them to it; after one step that row is one sample further back.
    back = 2 * (np.arange(3)[:, None] + 1) * np.ones((3, 3))
    network = Network(Carrier(3, init_x=own), np.array(given["conn"]), delay=back, **KERNELS[entry["id"]])
    low = lower(network, 1.0)
    state = low.init(low.params)
    kept = np.zeros(state["history.source"].shape)
    for i in range(3):
        kept[:, -2 * (i + 1)] = seen[i]
    _, found = low.step(low.params, state | {"history.source": jnp.asarray(kept)}, {})
    np.testing.assert_allclose(found["arriving"], entry["expected"], rtol=entry["tolerance"]["rtol"])


@pytest.mark.parametrize("entry", cases("kernel", model="laplacian"))
def test_laplacian(entry):
    weights, rtol = np.array(entry["inputs"]["W"]), entry["tolerance"]["rtol"]
    kind = entry["id"].removeprefix("kernel_laplacian_")
    normalisation = None if kind == "None" else kind
    np.testing.assert_allclose(laplacian(jnp.asarray(weights), normalisation), entry["expected"], rtol=rtol)
    # as a coupling, on an orthogonal set of states
    name = "laplacian" if normalisation is None else f"laplacian_{kind}"
    for x in np.eye(3):
        low = lower(Network(Carrier(3, init_x=x), weights, coupling=name), 1.0)
        _, found = low.step(low.params, low.init(low.params), {})
        np.testing.assert_allclose(found["arriving"], np.array(entry["expected"]) @ x, rtol=rtol)
