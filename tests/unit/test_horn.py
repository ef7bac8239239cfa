"""Harmonic oscillator networks: the map, layers with and without delays, and a task they learn."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.horn import HORNStep
from brainloom.models.horn_layers import HORNSeqLayer, HORNSeqNetwork

# isort: split
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brainloom.datasets import delayed_match_task
from brainloom.models.lowering import lower

MAP = {
    "alpha": np.array([0.04, 0.2, 0.1]),
    "omega": np.array([0.2, 0.224399475256414, 0.4]),
    "gamma": 0.01,
    "v": 0.1,
}


def iterate(node, drive):
    """x after every step of the map."""
    params = node.parameter_values()

    def step(state, one):
        state = node.discrete_step(params, state, {"input": one})
        return state, state["x"]

    return np.asarray(jax.lax.scan(step, node.initial_values(), jnp.asarray(drive))[1])


def test_published_map():
    drive = np.where(np.arange(30)[:, None] < 5, [1.0, 0.5, -0.3], 0.0)
    expected = {
        1: [0.0304637662382306, 0.092423431452002, -0.0291312612451591],
        5: [0.406260121428338, 1.24247492136878, -0.292677455378854],
        30: [-0.473529283791258, -1.87706926962521, 0.246981448855764],
    }
    found = iterate(HORNStep(3, **MAP), drive)
    for step, value in expected.items():
        np.testing.assert_allclose(found[step - 1], value, rtol=1e-12)


@pytest.mark.parametrize("h", [1.0, 0.25])
def test_map_against_numpy(h):
    drive = np.random.default_rng(0).normal(size=(40, 3))
    x, y = np.zeros(3), np.zeros(3)
    found = iterate(HORNStep(3, **MAP, h=h), drive)
    for t in range(40):
        force = MAP["alpha"] * np.tanh(drive[t] + MAP["v"] * x) - MAP["omega"] ** 2 * x - 2 * MAP["gamma"] * y
        y = y + h * force
        x = x + h * y
        np.testing.assert_allclose(found[t], x, rtol=1e-11, atol=1e-14)


def test_map_is_damped_exactly_where_the_docstring_says():
    # Linear part of the map, alpha = 0: determinant 1 - 2 h gamma, trace 2 - 2 h gamma - h^2 omega^2.
    rng = np.random.default_rng(1)
    omega, gamma, h = rng.uniform(0.01, 2.5, 300), rng.uniform(0.01, 0.5, 300), rng.uniform(0.3, 1.0, 300)
    node = HORNStep(300, alpha=0.0, omega=omega, gamma=gamma, h=h)
    params = node.parameter_values()
    columns = []
    for x, y in ((1.0, 0.0), (0.0, 1.0)):
        new = node.discrete_step(params, {"x": jnp.full(300, x), "y": jnp.full(300, y)}, {})
        columns.append(np.stack([new["x"], new["y"]], -1))
    radius = np.abs(np.linalg.eigvals(np.stack(columns, -1))).max(-1)
    damped = h**2 * omega**2 < 4 - 4 * h * gamma
    assert 20 < damped.sum() < 280
    np.testing.assert_array_equal(radius < 1.0, damped)


def test_step_reads_no_time_step():
    runs = []
    for dt in (0.1, 5.0):
        node = HORNStep(3, **MAP)
        node.init_state(2)
        with brainstate.environ.context(dt=dt):
            runs.append([np.asarray(node.update(input=0.3)) for _ in range(4)])
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_allclose(runs[0][-1][0], iterate(node, np.full((4, 3), 0.3))[-1], rtol=1e-12)
    low = lower(HORNStep(3, **MAP), 1.0)
    state, _ = low.step(low.params, low.init(low.params), {"input": jnp.full(3, 0.3)})
    np.testing.assert_allclose(state["x"], runs[0][0][0], rtol=1e-12)


def test_gradient_through_ten_thousand_steps_is_finite():
    def end(alpha, dtype):
        params = {k: v.astype(dtype) for k, v in HORNStep(2).parameter_values().items()} | {"alpha": alpha}
        start = {"x": jnp.full(2, 0.1, dtype), "y": jnp.zeros(2, dtype)}
        return jnp.sum(
            jax.lax.fori_loop(
                0, 10_000, lambda _, s: HORNStep.discrete_step(params, s, {"input": s["x"]}), start
            )["x"]
        )

    for dtype in (jnp.float32, jnp.float64):
        value, slope = jax.jit(jax.value_and_grad(lambda a, dtype=dtype: end(a, dtype)))(
            jnp.asarray(0.04, dtype)
        )
        assert np.isfinite(value) and np.isfinite(slope) and value.dtype == dtype


# --- layers -------------------------------------------------------------------------------------------------


def layer_in_numpy(layer, inputs, delay=None):
    """One sequence (time, n_input) through the published equations."""
    w = {k: np.asarray(v) for k, v in layer.weights().items()}
    p = {k: np.asarray(v) for k, v in layer.horn.parameter_values().items()}
    n = w["b_hh"].size
    x, past, found = np.zeros(n), [np.zeros(n)], []
    for s in np.asarray(inputs):
        if delay is None:
            recurrent = w["W_hh"] @ past[-1]
        else:
            ago = [[past[max(len(past) - 1 - delay[i, j], 0)][j] for j in range(n)] for i in range(n)]
            recurrent = np.sum(w["W_hh"] * np.array(ago), 1)
        drive = w["W_ih"] @ s + w["b_ih"] + (recurrent + w["b_hh"] + p["v"] * x) / np.sqrt(n)
        y = past[-1] + p["h"] * (
            p["alpha"] * np.tanh(drive) - p["omega"] ** 2 * x - 2 * p["gamma"] * past[-1]
        )
        x = x + p["h"] * y
        past.append(y)
        found.append(x)
    return np.array(found)


def example_layer(delay=None, seed=0):
    key = jax.random.key(seed)
    rng = np.random.default_rng(seed)
    biases = {"b_ih": rng.normal(size=6), "b_hh": rng.normal(size=6)}
    return HORNSeqLayer(2, 6, alpha=rng.uniform(0.05, 0.3, 6), v=0.4, delay=delay, key=key, **biases)


DELAYS = np.random.default_rng(3).integers(0, 5, (6, 6))


@pytest.mark.parametrize("delay", [None, DELAYS])
def test_layer_against_numpy_alone_and_in_a_batch(delay):
    layer = example_layer(delay)
    inputs = np.random.default_rng(4).normal(size=(15, 3, 2))
    layer.init_state(3)
    assert layer.horn.x.value.shape == (3, 6)
    found = layer(inputs)
    assert found.shape == (15, 3, 6)
    for k in range(3):
        np.testing.assert_allclose(
            found[:, k], layer_in_numpy(layer, inputs[:, k], delay), rtol=1e-10, atol=1e-13
        )
    layer.init_state()
    np.testing.assert_allclose(layer(inputs[:, 0]), found[:, 0], rtol=1e-12, atol=1e-14)


def test_delays_of_zero_are_none_and_delays_matter():
    inputs = np.random.default_rng(5).normal(size=(12, 2))
    runs = []
    for delay in (None, np.zeros((6, 6), int), DELAYS):
        layer = example_layer(delay)
        layer.init_state()
        runs.append(layer(inputs))
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-12, atol=1e-14)
    assert np.abs(runs[2] - runs[0]).max() > 1e-3


@pytest.mark.parametrize("delay", [None, DELAYS])
def test_a_sequence_in_pieces_is_the_sequence_and_a_reset_starts_anew(delay):
    layer, inputs = example_layer(delay), np.random.default_rng(6).normal(size=(14, 3, 2))
    layer.init_state(3)
    whole = layer(inputs)
    layer.reset_state(3)
    pieces = [layer(inputs[:5]), layer(inputs[5:6]), layer(inputs[6:])]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(layer.horn.x.value, pieces[-1][-1])


def test_one_unit_without_recurrence_is_the_lone_step():
    zero = {"W_hh": np.zeros((1, 1)), "W_ih": np.ones((1, 1))}
    layer = HORNSeqLayer(1, 1, alpha=0.2, v=0.3, **zero)
    layer.init_state()
    drive = np.random.default_rng(7).normal(size=(20, 1))
    np.testing.assert_allclose(layer(drive), iterate(HORNStep(1, alpha=0.2, v=0.3), drive), rtol=1e-12)


@pytest.mark.parametrize("delay", [None, [DELAYS, np.zeros((4, 4), int)]])
def test_network_is_its_layers_and_a_readout_of_the_last_position(delay):
    network = HORNSeqNetwork(2, [6, 4], 3, alpha=0.2, delay=delay, key=jax.random.key(1))
    inputs = np.random.default_rng(8).normal(size=(9, 5, 2))
    network.init_state(5)
    found = network(inputs)
    assert found.shape == (5, 3)
    each = [None, None] if delay is None else delay
    first = layer_in_numpy(network.layers[0], inputs[:, 2], each[0])
    second = layer_in_numpy(network.layers[1], first, each[1])
    expected = np.asarray(network.W_out.value()) @ second[-1] + np.asarray(network.b_out.value())
    np.testing.assert_allclose(found[2], expected, rtol=1e-10)
    network.reset_state(5)
    np.testing.assert_allclose(network(inputs), found, rtol=1e-12)
    _, pure = network.run({}, network.start(5), inputs)
    np.testing.assert_allclose(pure, found, rtol=1e-12)


def test_gradients_jit_and_vmap_of_the_pure_form():
    network = HORNSeqNetwork(
        2, 6, 1, alpha=brainstate.nn.Param(np.full(6, 0.2)), delay=DELAYS, key=jax.random.key(2)
    )
    inputs = jnp.asarray(np.random.default_rng(9).normal(size=(12, 4, 2)))
    weights = network.weights()
    assert set(weights["layers"][0]) == {"W_ih", "b_ih", "W_hh", "b_hh", "alpha"}

    def total(weights):
        return jnp.sum(network.run(weights, network.start(4), inputs)[1] ** 2)

    value_and_slope = jax.jit(jax.value_and_grad(total))
    along = jax.tree.map(lambda w: np.random.default_rng(w.size).normal(size=w.shape), weights)
    slope = value_and_slope(weights)[1]
    for path in (["W_out"], ["b_out"], *(["layers", 0, name] for name in weights["layers"][0])):

        def pick(tree, path=path):
            for part in path:
                tree = tree[part]
            return tree

        def moved(step, path=path):
            return jax.tree_util.tree_map_with_path(
                lambda at, w, d: (
                    w + step * d if [getattr(k, "key", getattr(k, "idx", None)) for k in at] == path else w
                ),
                weights,
                along,
            )

        step = 1e-6
        difference = (value_and_slope(moved(step))[0] - value_and_slope(moved(-step))[0]) / (2 * step)
        # Truncation 1e-11, rounding 1e-15 / step.
        np.testing.assert_allclose(np.sum(pick(slope) * pick(along)), difference, rtol=1e-5, atol=1e-8)
    each = jax.vmap(lambda one: network.run(weights, network.start(), one)[1], in_axes=1)(inputs)
    np.testing.assert_allclose(each, network.run(weights, network.start(4), inputs)[1], rtol=1e-11)


def test_training_through_the_states_of_the_module():
    network = HORNSeqNetwork(2, 6, 2, alpha=0.2, key=jax.random.key(3))
    brainstate.nn.init_all_states(network)
    inputs = jnp.asarray(np.random.default_rng(10).normal(size=(8, 5, 2)))
    weights = network.states(brainstate.ParamState)
    assert len(weights) == 6

    def loss():
        for layer in network.layers:
            layer.horn.x.value = jnp.zeros((5, *layer.horn.in_size))
            layer.horn.y.value = jnp.zeros((5, *layer.horn.in_size))
        return jnp.sum(network(inputs) ** 2)

    @brainstate.transform.jit
    def step():
        slopes, value = brainstate.transform.grad(loss, weights, return_value=True)()
        for name, slope in slopes.items():
            weights[name].value = weights[name].value - 1e-3 * slope
        return value

    values = [float(step()) for _ in range(20)]
    assert np.all(np.diff(values) < 0)

    def pure(w):
        return jnp.sum(network.run(w, network.start(5), inputs)[1] ** 2)

    slopes = brainstate.transform.grad(loss, weights)()
    expected = jax.grad(pure)(network.weights())
    np.testing.assert_allclose(
        sorted(float(jnp.sum(v**2)) for v in slopes.values()),
        sorted(float(jnp.sum(v**2)) for v in jax.tree.leaves(expected)),
        rtol=1e-9,
    )


def test_mistakes_are_named():
    layer = HORNSeqLayer(2, 6)
    with pytest.raises(ValueError, match=r"no hidden state yet; call init_state\(batch_size\)"):
        layer(np.zeros((4, 2)))
    layer.init_state(3)
    with pytest.raises(
        ValueError, match=r"inputs have shape \(4, 2\); the hidden state needs \(time, 3, 2\)"
    ):
        layer(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"delay has shape \(6, 6\) and type float64"):
        HORNSeqLayer(2, 6, delay=np.zeros((6, 6)))
    with pytest.raises(ValueError, match=r"W_hh has shape \(5, 6\); it must be \(6, 6\)"):
        HORNSeqLayer(2, 6, W_hh=np.zeros((5, 6)))
    with pytest.raises(ValueError, match="2 delays are given for 3 layers"):
        HORNSeqNetwork(2, [6, 6, 6], 1, delay=[None, None])
    given = HORNSeqLayer(
        2, 6, W_hh=lambda shape: jnp.full(shape, 0.5), b_ih=brainstate.nn.Param(np.ones(6), fit=False)
    )
    np.testing.assert_array_equal(given.W_hh.value(), 0.5)
    assert "b_ih" not in given.weights() and "W_hh" in given.weights()


def test_delayed_match_to_sample_is_learnt():
    inputs, targets = delayed_match_task(320, 8, 2, seed=0)
    x, y = jnp.asarray(inputs).swapaxes(0, 1), jnp.asarray(targets)
    network = HORNSeqNetwork(2, 64, 2, alpha=0.2, key=jax.random.key(0))

    def scores(weights, x, y):
        logits = network.run(weights, network.start(x.shape[1]), x)[1]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, jnp.mean(jnp.argmax(logits, -1) == y)

    adam = optax.adam(0.03)
    shuffled = [np.random.default_rng(epoch).permutation(256).reshape(8, 32) for epoch in range(20)]

    def step(carry, trials):
        weights, memory = carry
        slope = jax.grad(scores, has_aux=True)(weights, x[:, trials], y[trials])[0]
        change, memory = adam.update(slope, memory)
        return (optax.apply_updates(weights, change), memory), None

    start = network.weights()
    batches = jnp.asarray(np.concatenate(shuffled))
    (weights, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, batches))((start, adam.init(start)))
    before, after = (float(scores(w, x[:, 256:], y[256:])[1]) for w in (start, weights))
    assert before < 0.8 and after == 1.0
