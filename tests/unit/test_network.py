"""A network as pure functions, and as a module with states: the same steps."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, LinearStep
from brainloom.noise import OUProcess

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.coupling import Coupling
from brainloom.integrate import stochastic_step
from brainloom.models.lowering import lower
from brainloom.network import Network
from brainloom.simulate import Simulator

N, DT = 4, 0.1
RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.1, 1.0, (N, N))  # not symmetric, with a diagonal
HOLLOW = WEIGHTS * (1 - np.eye(N))
LAGS = RNG.uniform(0.35, 1.2, (N, N))
X = RNG.normal(size=(3, N))  # a batch of three
Param = brainstate.nn.Param


def diffusive(weights, x):
    return weights @ x - weights.sum(axis=1) * x


@pytest.mark.parametrize("coupling, received", [("additive", 2.0), ("diffusive", 2.0 - 0.5)])
def test_a_weight_leads_from_its_column_to_its_row(coupling, received):
    weights = np.zeros((3, 3))
    weights[0, 2] = 0.5
    low = lower(Network(LinearStep(3, gamma=0.0), weights, coupling=coupling), DT)
    slope = low.field(low.params, {"x": jnp.array([1.0, 3.0, 4.0])}, {}, 0.0)["x"]
    np.testing.assert_allclose(slope, [received, 0.0, 0.0], atol=1e-15)


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_diagonal_of_the_connectome_is_ignored_unless_asked_for(sparse, delayed):
    options = {"coupling": "additive", "sparse": sparse} | ({"delay": LAGS} if delayed else {})
    state, found = {"x": jnp.asarray(X[0])}, []
    for weights in (WEIGHTS, WEIGHTS + np.diag([1.0, 5.0, 0.0, 2.0])):
        low = lower(Network(LinearStep(N), weights, **options), DT)
        found.append(low.field(low.params, state, {}, 0.0)["x"])
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], -0.1 * X[0] + HOLLOW @ X[0], rtol=1e-12)
    low = lower(Network(LinearStep(N), WEIGHTS, self_connection=True, **options), DT)
    np.testing.assert_allclose(
        low.field(low.params, state, {}, 0.0)["x"], -0.1 * X[0] + WEIGHTS @ X[0], rtol=1e-12
    )


def test_coupled_variables_reach_their_ports_and_inputs_are_added():
    node = HopfStep(N, a=0.1, w=0.3)
    state = {"x": jnp.asarray(X[0]), "y": jnp.asarray(X[1])}
    low = lower(Network(node, WEIGHTS, coupled_var=("x", "y"), k=0.7), DT)
    found = low.field(low.params, state, {"y_input": 0.25}, 0.0)
    alone = node.derivative(state)
    np.testing.assert_allclose(found["x"], alone["x"] + 0.7 * diffusive(HOLLOW, X[0]), rtol=1e-12)
    np.testing.assert_allclose(found["y"], alone["y"] + 0.7 * diffusive(HOLLOW, X[1]) + 0.25, rtol=1e-12)
    crossed = lower(Network(node, WEIGHTS, coupled_var="x", port="y_input", k=np.arange(4.0)), DT)
    found = crossed.field(crossed.params, state, {}, 0.0)
    np.testing.assert_array_equal(found["x"], alone["x"])
    np.testing.assert_allclose(found["y"], alone["y"] + np.arange(4) * diffusive(HOLLOW, X[0]), rtol=1e-12)


def test_wrong_networks_are_errors():
    node = LinearStep(N)
    with pytest.raises(ValueError, match=r"conn has shape \(3, 3\); 4 regions need \(4, 4\)"):
        Network(node, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"conn has shape \(3, 3\); 4 regions need \(4, 4\)"):
        Network(node, Param(jnp.zeros((3, 3))))
    with pytest.raises(ValueError, match="method is 'rk5'"):
        lower(Network(node, WEIGHTS), DT, "rk5")
    with pytest.raises(ValueError, match="advance takes its number of steps from noise or inputs"):
        low = lower(Network(node, WEIGHTS), DT)
        low.advance(low.params, low.init(low.params), {}, None)
    flat = Network(node, WEIGHTS.ravel())  # as some files hold it
    np.testing.assert_allclose(flat.parameter_values()["weights"], HOLLOW)


# --- lowered -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def low():
    node = HopfStep(N, a=np.array([0.1, -0.1, 0.05, 0.2]), w=0.3, noise_x=0.02, noise_y=np.arange(4) * 0.01)
    return lower(Network(node, WEIGHTS, coupled_var=("x", "y"), k=0.2), DT, "stochastic_heun")


@pytest.fixture(scope="module")
def delayed():
    node = HopfStep(
        N, a=0.1, w=0.3, init_x=X[0], noise_y=0.05, noise_x_input=OUProcess(N, sigma=0.1, tau=2.0)
    )
    return lower(Network(node, WEIGHTS, delay=LAGS, coupled_var="x", k=0.2), DT, "heun")


NOISE = jnp.asarray(RNG.normal(size=(6, 2, N)))
INPUT = {"x_input": jnp.array([0.0, 0.1, 0.0, -0.1])}


def test_a_step_is_the_integrator_on_the_coupled_field_with_scaled_noise(low):
    state = low.init(low.params)
    new, out = low.step(low.params, state, INPUT, NOISE[0], 0.0)
    root = np.sqrt(DT)
    kicks = {"x": 0.02 * root * NOISE[0, 0], "y": np.arange(4) * 0.01 * root * NOISE[0, 1]}

    def f(values, t):
        return low.field(low.params, values, INPUT, t)

    expected = stochastic_step("stochastic_heun", f, state, kicks, 0.0, DT)
    for name in ("x", "y"):
        np.testing.assert_allclose(new[name], expected[name], rtol=1e-13)
    np.testing.assert_array_equal(out["source"], new["x"])
    assert low.noise_shape == (2, N) and set(out) == {"source", "x", "y", "bold", "eeg"}


@pytest.mark.parametrize("which", ["low", "delayed"])
def test_advance_is_repeated_stepping(which, request):
    """Constants are held over all steps, arrays have a row a step; the state that is left goes on."""
    low = request.getfixturevalue(which)
    rows = jnp.asarray(RNG.normal(size=(12, N)))
    noise = jnp.concatenate([NOISE, -NOISE])
    advance = jax.jit(low.advance)
    start = low.init(low.params, jax.random.key(1))
    end, out = advance(low.params, start, {"x_input": rows, "y_input": 0.1}, noise, 0.0)
    step, state = jax.jit(low.step), start
    for k in range(12):
        state, seen = step(low.params, state, {"x_input": rows[k], "y_input": 0.1}, noise[k], DT * k)
        np.testing.assert_allclose(out["y"][k], seen["y"], rtol=1e-12, atol=1e-14)
    assert set(end) == set(state)
    for name in end:
        np.testing.assert_allclose(end[name], state[name], rtol=1e-12, atol=1e-14)
    half, first = advance(low.params, start, {"x_input": rows[:6], "y_input": 0.1}, noise[:6], 0.0)
    _, second = advance(low.params, half, {"x_input": rows[6:], "y_input": 0.1}, noise[6:], 6 * DT)
    np.testing.assert_allclose(jnp.concatenate([first["x"], second["x"]]), out["x"], rtol=1e-12, atol=1e-14)


def test_time_goes_on_within_advance():
    class ClockStep(LinearStep):
        @staticmethod
        def rhs(params, state, inputs, t):
            return {"x": jnp.broadcast_to(3.0 * t**2, state["x"].shape)}

    low = lower(Network(ClockStep(1, init_x=0.0), np.zeros((1, 1))), DT, "rk4")  # exact for a cubic
    end, _ = low.advance(low.params, low.init(low.params), {}, jnp.zeros((5, *low.noise_shape)), 2.0)
    np.testing.assert_allclose(end["x"], 2.5**3 - 2.0**3, rtol=1e-12)


@pytest.mark.parametrize("which", ["low", "delayed"])
def test_a_leading_axis_and_vmap_give_the_same_batch(which, request):
    low = request.getfixturevalue(which)
    noise = jnp.asarray(RNG.normal(size=(6, 2, 3, N)))
    batch = low.init(low.params, jax.random.key(1), 3)
    assert batch["x"].shape == (3, N)
    singles = [
        {k: v[:, :, m] if k.startswith("history.") else v[m] for k, v in batch.items()} for m in range(3)
    ]
    together = low.advance(low.params, batch, INPUT | {"x_input": jnp.zeros((6, 1, N))}, noise, 0.0)[1]["x"]
    stacked = {k: jnp.stack([one[k] for one in singles]) for k in batch}
    mapped = jax.jit(jax.vmap(low.advance, in_axes=(None, 0, None, 2, None), out_axes=(0, 1)))
    found = mapped(low.params, stacked, {"x_input": jnp.zeros((6, N))}, noise, 0.0)[1]["x"]
    np.testing.assert_allclose(found, together, rtol=1e-12, atol=1e-14)
    one = low.advance(low.params, singles[1], {"x_input": jnp.zeros((6, N))}, noise[:, :, 1], 0.0)[1]["x"]
    np.testing.assert_allclose(together[:, 1], one, rtol=1e-12, atol=1e-14)


def test_trainable_values_are_unconstrained_in_the_parameters():
    softplus, sigmoid = brainstate.nn.SoftplusT(0.0), brainstate.nn.SigmoidT(5.0, 20.0)
    shape = Param(jnp.asarray(0.7), t=softplus)
    own = Param(jnp.asarray(2.0 * HOLLOW))
    network = Network(
        HopfStep(N, a=Param(jnp.asarray([0.1, 0.2, 0.3, 0.4]), t=softplus), w=Param(0.3 / u.ms, fit=False)),
        Param(jnp.asarray(HOLLOW)),
        distance=10.0 * LAGS,
        speed=Param(jnp.asarray(10.0), t=sigmoid),
        couplings=[
            Coupling("tanh", "x", "x_input", k=Param(jnp.asarray(0.5), t=softplus), shape={"scale": shape}),
            Coupling("additive", "y", "y_input", conn=own, delay=0.0, name="direct"),
        ],
    )
    low = lower(network, DT)
    names = {"a", "weights", "speed", "coupling_0.k", "coupling_0.scale", "direct.weights"}
    assert set(low.trainable) == names == set(network.trainable())
    assert len(network.states(brainstate.ParamState)) == len(names)
    values = low.constrain(low.params)
    expected = {"a": [0.1, 0.2, 0.3, 0.4], "weights": HOLLOW, "speed": 10.0, "direct.weights": 2.0 * HOLLOW}
    expected |= {"coupling_0.k": 0.5, "coupling_0.scale": 0.7, "w": 0.3, "delay": LAGS}
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(
        low.params["a"], jnp.log(jnp.expm1(jnp.array([0.1, 0.2, 0.3, 0.4]))), rtol=1e-10
    )
    faster = low.constrain(low.params | {"speed": sigmoid.inverse(jnp.asarray(20.0 - 1e-9))})
    np.testing.assert_allclose(faster["delay"], LAGS / 2, rtol=1e-6)


@pytest.mark.parametrize("method, order", [("euler", 1), ("exp_euler", 1), ("heun", 2), ("rk4", 4)])
def test_methods_keep_their_orders_in_a_network(method, order):
    """Coupling that is held over the step would lower them to 1."""
    node = HopfStep(N, a=0.2, w=0.3, init_x=0.4 * X[0], init_y=0.4 * X[1])
    network = Network(node, WEIGHTS, coupled_var=("x", "y"), k=0.3)

    def end(dt):
        low = lower(network, dt, method)
        quiet = jnp.zeros((round(4.0 / dt), *low.noise_shape))
        last = jax.jit(low.advance)(low.params, low.init(low.params), {}, quiet, 0.0)[0]
        return np.concatenate([last["x"], last["y"]])

    coarse, middle, fine = (end(dt) for dt in (0.1, 0.05, 0.025))
    found = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert found == pytest.approx(order, abs=0.25)


# --- the stateful face -------------------------------------------------------------------------------------------


def stateful(options):
    node = HopfStep(N, a=0.1, w=0.3, init_x=X[0], method="heun")
    return Network(node, WEIGHTS, coupled_var="x", k=0.2, **options)


@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"delay": LAGS}, {"delay": LAGS / 20}])
@pytest.mark.parametrize("batch", [None, 2])
def test_update_is_the_step_of_the_simulator(options, batch):
    network = stateful(options)
    expected = Simulator(network, DT).run(2.0, batch_size=batch)["output"]
    with brainstate.environ.context(dt=DT):
        brainstate.nn.init_all_states(network, batch_size=batch)
        seen = brainstate.transform.for_loop(lambda i: network.update(), jnp.arange(20))
        np.testing.assert_allclose(seen, expected, rtol=1e-12, atol=1e-14)
        # with inputs, by place and by name, and after a reset
        brainstate.nn.reset_all_states(network, batch_size=batch)
        first = network.update(0.3, y_input=0.1)
    low = lower(network, DT)
    state = low.init(low.params, batch_size=batch)
    _, out = low.step(low.params, state, {"x_input": 0.3, "y_input": 0.1})
    np.testing.assert_allclose(first, out["source"], rtol=1e-12)


def test_gradients_through_update_equal_those_through_the_simulator():
    gain = Param(jnp.asarray(0.2), t=brainstate.nn.SoftplusT(0.0))
    network = Network(HopfStep(N, a=0.1, w=0.3, init_x=X[0]), WEIGHTS, delay=LAGS, coupled_var="x", k=gain)
    params = network.states(brainstate.ParamState)

    def by_hand():
        with brainstate.environ.context(dt=DT):
            brainstate.nn.init_all_states(network)
            return jnp.sum(brainstate.transform.for_loop(lambda i: network.update(), jnp.arange(20)) ** 2)

    def by_simulator():
        return jnp.sum(Simulator(network, DT).run(2.0)["output"] ** 2)

    found, expected = (
        jax.tree.leaves(brainstate.transform.grad(f, params)()) for f in (by_hand, by_simulator)
    )
    assert len(found) == 1 and abs(float(found[0])) > 1e-3
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10)


def test_networks_of_the_same_structure_share_their_compiled_programs():
    """What programs are keyed by holds no arrays."""
    one, other = (
        Network(HopfStep(N, a=a, noise_x=noise), scale * WEIGHTS, delay=scale * LAGS, k=k).structure(
            "heun", DT
        )
        for a, noise, scale, k in ((0.1, 0.02, 1.0, 0.3), (np.zeros(N), 0.5, 1.01, np.ones(N)))
    )
    assert one == other and hash(one) == hash(other)
    assert one != stateful({"delay": LAGS}).structure("heun", DT)


@pytest.mark.parametrize("options", [{}, {"delay": LAGS}])
def test_a_loop_in_python_compiles_nothing_after_its_first_steps(options, caplog):
    network = stateful(options)
    with brainstate.environ.context(dt=DT):
        brainstate.nn.init_all_states(network)
        for _ in range(2):
            network.update()
        with jax.log_compiles():
            network.update()
            assert not [r for r in caplog.records if "ompiling" in r.getMessage()]
            jax.jit(lambda x: 2.0 * x)(1.0)
    assert [r for r in caplog.records if "ompiling" in r.getMessage()]  # they would be seen
