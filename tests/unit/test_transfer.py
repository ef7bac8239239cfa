"""
Cross-spectra by transfer functions against closed forms, full matrices and simulations.

Comparisons of two ways to the same number in double precision allow 1e-10 of the largest entry: both solve linear
systems of rates that differ by up to 1e5, which costs as many digits.
"""

from functools import partial
from typing import ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import (
    BilinearDCMStep,
    HopfStep,
    JansenRitStep,
    LinearStep,
    NeuralMass,
    Observable,
    Parameter,
    Port,
    ReducedWongWangStep,
    State,
    WongWangExcInhStep,
    get_model,
)

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov

from brainloom import engine
from brainloom.coupling import KINDS, Coupling
from brainloom.linear.agreement import UnstableError, check_against_simulation, linear_theory
from brainloom.linear.equilibrium import FixedPointError, checked_fixed_point, fixed_point, is_found
from brainloom.linear.jacobian import network_jacobian
from brainloom.linear.linearised import LinearError, linearise
from brainloom.linear.measured import (
    bold_spectra,
    covariance_from_spectra,
    observable_at,
    sensor_spectra,
    stationary_covariance,
)
from brainloom.linear.parts import full_jacobian
from brainloom.linear.spectra import cross_spectrum
from brainloom.linear.transfer import joint_spectra, source_spectra
from brainloom.models.lowering import all_values, node_of
from brainloom.network import Network
from brainloom.noise import MultiplicativeNoise, OUProcess, PinkNoise, WhiteNoise
from brainloom.observe import balloon

N = 4
RNG = np.random.default_rng(0)
OFF = ~np.eye(N, dtype=bool)
WEIGHTS = RNG.uniform(0.1, 0.4, (N, N)) * OFF  # not symmetric: directions are tested
DELAYS = RNG.uniform(1.0, 9.0, (N, N))
FREQUENCY = np.array([-7.0, 0.0, 3.0, 11.0, 40.0])


def close(found, expected, rtol=1e-10):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max())


def parts(model):
    """Structure, values and time unit of a model or network."""
    node = node_of(model)
    return model.structure("heun", node.DT), all_values(model), node.time_unit


def at_rest(model):
    structure, values, _ = parts(model)
    return checked_fixed_point(structure, values, node_of(model).initial_values())


def origin(n=N):
    """The fixed point of linear nodes."""
    return {"x": jnp.zeros(n)}


def spectra(model, outputs, frequency=FREQUENCY, state=None, of=source_spectra):
    structure, values, unit = parts(model)
    state = at_rest(model) if state is None else state
    return of(structure, values, state, outputs, frequency, unit)


compiled_jacobian = jax.jit(network_jacobian, static_argnums=0)


def by_full_matrix(model, outputs, noise):
    """Spectra from the Jacobian of all states and regions; `noise` (state, region) are amplitudes."""
    structure, values, unit = parts(model)
    state, names = at_rest(model), structure.model.state_names()
    p = engine.prepare(structure, values, 1.0)
    n = structure.n_regions

    def seen(flat):
        full = dict(zip(names, flat.reshape(len(names), n), strict=True))
        ports = engine.port_values(structure, p, full, {})
        return jnp.concatenate([engine.observe(structure, p, full, name, ports) for name in outputs])

    flat = jnp.concatenate([state[name] for name in names])
    reads = jax.jit(jax.jacfwd(seen))(flat)
    jacobian = compiled_jacobian(structure, values, state)
    scale = 1e-3 if unit == "ms" else 1.0
    full = cross_spectrum(jacobian, jnp.diag(jnp.asarray(noise).reshape(-1) ** 2), scale * FREQUENCY)
    found = scale * reads @ full @ reads.T
    return np.asarray(found).reshape(len(FREQUENCY), len(outputs), n, len(outputs), n)


# --- closed forms ------------------------------------------------------------------------------------------------


def test_linear_nodes_are_the_multivariate_ornstein_uhlenbeck_process():
    gamma, sigma = -RNG.uniform(5.0, 60.0, N), RNG.uniform(0.5, 2.0, N)
    node = LinearStep(N, gamma=gamma, noise_x=sigma, time_unit="s")
    found = spectra(Network(node, WEIGHTS, k=20.0), ["x"], state=origin())["x"]
    jacobian = np.diag(gamma) + 20.0 * (WEIGHTS - np.diag(WEIGHTS.sum(axis=1)))
    for f, one in zip(FREQUENCY, found, strict=True):
        resolvent = np.linalg.inv(2j * np.pi * f * np.eye(N) - jacobian)
        close(one, resolvent @ np.diag(sigma**2) @ resolvent.conj().T, 1e-12)


def test_density_is_the_transform_of_the_lagged_covariance():
    """Three coupled processes at 0.3 Hz: no resolvent in what is expected."""
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.0, 1.0, (3, 3)) * (1 - np.eye(3))
    node = LinearStep(3, gamma=[-1.0, -1.5, -2.0], noise_x=[1.0, 0.5, 0.8], time_unit="s")
    found = spectra(Network(node, weights, k=0.5, coupling="additive"), ["x"], [0.3], origin(3))["x"][0]
    jacobian = np.diag([-1.0, -1.5, -2.0]) + 0.5 * weights
    covariance = solve_continuous_lyapunov(jacobian, -np.diag([1.0, 0.25, 0.64]))
    step, total = 0.01, 0.0
    turn, lagged = expm(step * jacobian), covariance
    for k in range(6000):  # both directions of time: <x(t + s) x(t)'> = expm(J s) C
        part = lagged * np.exp(-2j * np.pi * 0.3 * k * step)
        total = total + (0.5 if k == 0 else 1.0) * step * (part + part.conj().T)
        lagged = turn @ lagged
    close(found, total, 1e-4)  # trapezoidal rule: step^2 rate^2 / 12


def test_a_hopf_node_below_its_bifurcation():
    a, w, sigma = -0.05, 0.3, 0.1  # 1/ms
    found = spectra(HopfStep(1, a=a, w=w, noise_x=sigma, noise_y=sigma), ["x"])["x"][:, 0, 0]
    s = 2e-3j * np.pi * FREQUENCY
    expected = sigma**2 * (np.abs(s - a) ** 2 + w**2) / np.abs((s - a) ** 2 + w**2) ** 2
    close(found, 1e-3 * expected, 1e-12)


def test_two_delayed_linear_nodes():
    gamma, k, noise = -0.1, 0.06, np.array([1.0, 0.4])
    delay = np.array([[0.0, 5.0], [13.0, 0.0]])
    node = LinearStep(2, gamma=gamma, noise_x=noise)
    net = Network(node, [[0.0, 1.0], [0.5, 0.0]], delay=delay, coupling="additive", k=k)
    found = spectra(net, ["x"], state=origin(2))["x"]
    for f, one in zip(FREQUENCY, found, strict=True):
        s = 2e-3j * np.pi * f
        onto = k * np.array([[0.0, np.exp(-s * 5.0)], [0.5 * np.exp(-s * 13.0), 0.0]])
        resolvent = np.linalg.inv((s - gamma) * np.eye(2) - onto)
        close(one, 1e-3 * resolvent @ np.diag(noise**2) @ resolvent.conj().T, 1e-12)


def test_reduced_wong_wang_has_the_spectrum_of_its_rate():
    sigma = 0.02
    node = ReducedWongWangStep(1, noise_S=sigma)
    state = at_rest(node)
    assert state["S"][0] == pytest.approx(0.0343550568810047, abs=1e-12)  # reference table
    h = 1e-6
    slope = [float(node.derivative({"S": state["S"] + d})["S"][0]) for d in (h, -h)]
    rate = (slope[0] - slope[1]) / (2 * h)
    found = spectra(node, ["S"])["S"][:, 0, 0]
    close(found, sigma**2 / ((2 * np.pi * FREQUENCY) ** 2 + rate**2), 1e-8)  # the difference: h^2


@pytest.mark.parametrize(("p", "peak"), [(330.0, 11.135), (60.0, 9.895)])
def test_peaks_of_a_jansen_rit_column(p, peak):
    """Frequencies of the reference computations, given to 5 mHz."""
    node = JansenRitStep(1, p=p, noise_y4=100.0)
    structure, values, _ = parts(node)
    # at p = 60 the fixed point next to the alpha rhythm, not the one that the default start leads to
    near = jnp.array([0.13, 24.0, 17.0, 0.0, 0.0, 0.0])[:, None]
    guess = dict(zip(structure.model.state_names(), near, strict=True))
    state = checked_fixed_point(structure, values, guess)
    frequency = np.arange(8.0, 13.0, 0.001)
    power = spectra(node, ["potential"], frequency, state)["potential"][:, 0, 0].real
    assert frequency[power.argmax()] == pytest.approx(peak, abs=5e-3)


# --- the same as the full matrix ------------------------------------------------------------------------------------


class ManyPorts(NeuralMass):
    """A nonlinear focus that hears every coupling through a port of its own."""

    STATES = (State("x", 0.3), State("y", -0.2))
    PARAMETERS = (Parameter("a", -0.9, (-1.0, 1.0), "1/time"), Parameter("w", 0.9, (0.0, 2.0), "rad/time"))
    PORTS = tuple(Port(kind, "1/time", "x") for kind in KINDS)
    OBSERVABLES: ClassVar = {
        "driven": Observable(
            lambda p, s, u: jnp.tanh(u["diffusive"] + 2.0 * u["tanh"]) + s["y"] ** 2, driven=True
        )
    }

    @staticmethod
    def rhs(params, state, inputs, t):
        x, y = state["x"], state["y"]
        arriving = sum((0.05 + 0.01 * k) * jnp.sin(inputs[kind]) for k, kind in enumerate(KINDS))
        return {
            "x": params["a"] * x - params["w"] * y - x**3 + 0.2 + arriving,
            "y": params["w"] * x + params["a"] * y + 0.1 * x * y,
        }


def every_coupling():
    """All coupling functions at once, with parameters per region where they may have them."""
    own = {"tanh_presummation": {"sigma": RNG.uniform(0.8, 1.2, N)}, "kuramoto": {"alpha": 0.3}}
    own["sigmoidal_jansen_rit"] = {"midpoint": RNG.uniform(0.0, 1.0, N)}
    couplings = [
        Coupling(
            kind,
            "y" if kind == "additive" else "x",
            kind,
            k=RNG.uniform(0.3, 0.8, N),
            shape=own.get(kind, {}),
        )
        for kind in KINDS
    ]
    noise = RNG.uniform(0.1, 0.5, (2, N))
    node = ManyPorts(N, w=RNG.uniform(0.5, 1.5, N), noise_x=noise[0], noise_y=noise[1])
    return Network(node, WEIGHTS, couplings=couplings), noise


def test_every_coupling_agrees_with_the_full_matrix():
    net, noise = every_coupling()
    structure, values, _ = parts(net)
    state = at_rest(net)
    jacobian = compiled_jacobian(structure, values, state)
    close(full_jacobian(linearise(structure, values, state)), jacobian, 1e-13)
    outputs = ["x", "driven"]
    found = spectra(net, outputs, of=joint_spectra)
    expected = by_full_matrix(net, outputs, noise)
    for a, first in enumerate(outputs):
        for b, second in enumerate(outputs):
            close(found[first, second], expected[:, a, :, b])
    # lists of connections are the same network, and delays of 0 too
    net.sparse = True
    structure, values, _ = parts(net)
    assert all(term.listed for term in structure.terms)
    close(full_jacobian(linearise(structure, values, state)), jacobian, 1e-13)


def wong_wang():
    node = WongWangExcInhStep(2, noise_S_e=0.01, noise_S_i=0.02)
    return Network(node, WEIGHTS[:2, :2], k=0.3, coupling="additive")


def test_driven_observables_agree_with_the_full_matrix():
    outputs = ["r_e", "S_e"]  # the rate sees what arrives
    found = spectra(wong_wang(), outputs)
    expected = by_full_matrix(wong_wang(), outputs, np.outer([0.01, 0.02], np.ones(2)))
    for k, name in enumerate(outputs):
        close(found[name], expected[:, k, :, k])


def test_delays_of_all_couplings_and_of_regions_themselves():
    """The characteristic matrix written out with every delay, from derivatives of the model in its ports."""
    node = get_model("WilsonCowanDelayedStep")(N, P=RNG.uniform(0.0, 0.3, N), noise_E=0.02, noise_I=0.01)
    net = Network(node, WEIGHTS, delay=DELAYS, k=0.7)
    values = all_values(net)
    state = at_rest(net)
    found = spectra(net, ["lfp"])["lfp"]
    p = values | {"t": 0.0}
    onto = {
        "E_ee": ("E", "delay_ee"),
        "I_ei": ("I", "delay_ei"),
        "E_ie": ("E", "delay_ie"),
        "I_ii": ("I", "delay_ii"),
    }
    x = state["E"]
    drive = 0.7 * (WEIGHTS @ x - WEIGHTS.sum(axis=1) * x)

    def slopes(e, i, ports):
        out = node.rhs(p, {"E": e, "I": i}, ports, 0.0)
        return jnp.stack([out["E"], out["I"]])

    ports = {name: state[source] for name, (source, _) in onto.items()} | {"drive_e": drive}
    d_e, d_i, d_ports = (
        jax.tree.map(lambda m: np.einsum("kii->ki", m), one)
        for one in jax.jit(jax.jacfwd(slopes, argnums=(0, 1, 2)))(state["E"], state["I"], ports)
    )
    for f, one in zip(FREQUENCY, found, strict=True):
        s = 2e-3j * np.pi * f
        local = [np.array(d_e, complex), np.array(d_i, complex)]  # onto E and I from E, from I
        for name, (source, lag) in onto.items():
            local["EI".index(source)] += d_ports[name] * np.exp(-s * float(values[lag]))
        matrix = np.block([[np.diag(local[col][row]) for col in range(2)] for row in range(2)])
        arriving = 0.7 * (WEIGHTS * np.exp(-s * DELAYS) - np.diag(WEIGHTS.sum(axis=1)))
        matrix[:, :N] += np.concatenate([np.diag(d_ports["drive_e"][row]) @ arriving for row in range(2)])
        resolvent = np.linalg.inv(s * np.eye(2 * N) - matrix)
        noise = np.diag(np.repeat([0.02**2, 0.01**2], N))
        read = np.concatenate([np.eye(N), -np.eye(N)], axis=1) @ resolvent
        close(one, 1e-3 * read @ noise @ read.conj().T)


# --- noise -----------------------------------------------------------------------------------------------------------


def test_filtered_and_correlated_noise():
    """The Ornstein-Uhlenbeck spectrum at a state and at a port, and white noise, times the response of the network."""
    mix = 0.6 * np.eye(N) + 0.4
    tau, sigma = RNG.uniform(2.0, 20.0, N), RNG.uniform(0.2, 0.5, N)
    jacobian = np.diag(np.full(N, -0.1)) + 0.2 * (WEIGHTS - np.diag(WEIGHTS.sum(axis=1)))

    rest = np.linalg.solve(-jacobian, np.full(N, 0.3))  # the mean of a signal moves the fixed point

    for slot, tau_given, correlation in (
        ("noise_x", tau, None),
        ("noise_current", tau, mix),
        ("noise_x", None, mix),
    ):
        if tau_given is None:
            noise = WhiteNoise(sigma, correlation=correlation)
        else:
            noise = OUProcess(sigma=sigma, tau=tau, mean=0.3, correlation=correlation)
        net = Network(LinearStep(N, gamma=-0.1, **{slot: noise}), WEIGHTS, k=0.2)
        state = at_rest(net) if slot == "noise_current" else origin()
        if slot == "noise_current":
            close(state["x"], rest, 1e-12)
        drawn = np.diag(sigma) @ (np.eye(N) if correlation is None else mix) @ np.diag(sigma)
        for f, one in zip(FREQUENCY, spectra(net, ["x"], state=state)["x"], strict=True):
            s = 2e-3j * np.pi * f
            read = np.linalg.inv(s * np.eye(N) - jacobian)
            if tau_given is not None:
                read = read @ np.diag(np.sqrt(2.0 / tau) / (s + 1.0 / tau))
            close(one, 1e-3 * read @ drawn @ read.conj().T, 1e-12)


def test_multiplicative_noise_counts_with_its_strength_at_the_fixed_point():
    def grow(x):
        return 1.0 + 0.5 * x

    for stratonovich in (False, True):
        noise = MultiplicativeNoise(grow, sigma=0.2, stratonovich=stratonovich)
        node = LinearStep(1, gamma=-0.5, noise_x=noise, time_unit="s")
        state = at_rest(node)
        drift = 0.5 * 0.2**2 * 0.5  # of a Stratonovich equation, times g: x' = gamma x + drift (1 + x / 2)
        rest = drift / (0.5 - 0.5 * drift) if stratonovich else 0.0
        rate = -0.5 + (0.5 * drift if stratonovich else 0.0)
        assert state["x"][0] == pytest.approx(rest, abs=1e-14)
        found = spectra(node, ["x"])["x"][:, 0, 0]
        close(found, (0.2 * grow(rest)) ** 2 / ((2 * np.pi * FREQUENCY) ** 2 + rate**2), 1e-12)


# --- covariances and measurements ------------------------------------------------------------------------------------


def test_covariance_by_lyapunov_and_by_integration():
    noise = {"noise_x": 0.1, "noise_y_input": OUProcess(sigma=0.3, tau=0.1)}
    net = Network(HopfStep(2, a=-3.0, w=20.0, time_unit="s", **noise), WEIGHTS[:2, :2], k=2.0)
    structure, values, unit = parts(net)
    state = {"x": jnp.zeros(2), "y": jnp.zeros(2)}
    found = stationary_covariance(structure, values, state, ("y", "x"))
    last = 400.0
    frequency = jnp.linspace(0.0, last, 20_001)
    dense = joint_spectra(structure, values, state, ("y", "x"), frequency, unit)
    rows = [jnp.concatenate([dense[a, b] for b in ("y", "x")], axis=2) for a in ("y", "x")]
    expected = covariance_from_spectra(jnp.concatenate(rows, axis=1), frequency)
    tail = np.diag([0.0, 0.0, 1.0, 1.0]) * 0.1**2 / (2 * np.pi**2 * last)  # of white noise in x
    close(found, expected + tail, 1e-5)  # the next term of the tail: (w / 2 pi f)^2


def test_covariance_of_a_driven_observable():
    net, noise = every_coupling()
    structure, values, _ = parts(net)
    state = at_rest(net)
    full = solve_continuous_lyapunov(
        np.asarray(compiled_jacobian(structure, values, state)), -np.diag(noise.reshape(-1) ** 2)
    )
    p = engine.prepare(structure, values, 1.0)

    def seen(x, y):
        now = {"x": x, "y": y}
        return engine.observe(structure, p, now, "driven", engine.port_values(structure, p, now, {}))

    reads = np.concatenate(jax.jit(jax.jacfwd(seen, argnums=(0, 1)))(state["x"], state["y"]), axis=1)
    close(stationary_covariance(structure, values, state, ("driven",)), reads @ full @ reads.T)


def test_bold_is_seen_through_the_vessels_at_the_steady_drive():
    net = wong_wang()
    structure, values, unit = parts(net)
    state = at_rest(net)
    rate = observable_at(structure, values, state, "r_e")
    p = {name: jnp.asarray(value) for name, value in balloon.VARIANTS["friston2003"].items()}
    frequency = np.array([0.01, 0.05, 0.2])
    gain, baseline = jnp.array([0.05, 0.1]), 1.0
    seen = partial(bold_spectra, structure, values, state, frequency, unit, p, source="r_e")
    found = jax.jit(seen)(gain=gain, baseline=baseline)
    drive = gain * (rate - baseline)
    assert float(jnp.min(drive)) > 0.05  # far enough from rest to matter
    h, at_zero = jax.jit(lambda z: (balloon.transfer(p, frequency, z), balloon.transfer(p, frequency)))(drive)
    neural = spectra(net, ["r_e"], frequency)["r_e"]
    for k in range(3):
        m = np.diag(gain * h[k])
        close(found[k], m @ neural[k] @ m.conj().T, 1e-12)
    assert np.abs(h / at_zero - 1.0).max() > 0.05


def test_sensors_mix_sources_and_add_their_noise():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, N, N)) + 1j * rng.normal(size=(3, N, N))
    density = x @ np.conj(np.swapaxes(x, 1, 2))
    field, own = rng.normal(size=(5, N)), rng.uniform(0.1, 1.0, 5)
    expected = np.einsum("si,fij,tj->fst", field, density, field)
    close(sensor_spectra(jnp.asarray(density), field), expected, 1e-13)
    for noise in (own, np.diag(own)):
        close(sensor_spectra(jnp.asarray(density), field, noise), expected + np.diag(own), 1e-13)
    close(sensor_spectra(jnp.asarray(density), field, 0.3), expected + 0.3 * np.eye(5), 1e-13)


# --- precision and transformations ---------------------------------------------------------------------------------


def test_many_parameter_sets_at_once_and_single_precision():
    """Single precision to 1e-4: 1e-7 times the condition of the systems that are solved."""
    node = get_model("WilsonCowanStep")(N, P=RNG.uniform(0.1, 0.3, N), noise_E=0.1)
    net = Network(node, WEIGHTS, delay=DELAYS, coupling="tanh", k=0.5)
    structure, values, unit = parts(net)

    def one(shift, values, guess):
        state, error = fixed_point(structure, values | {"P": values["P"] + shift}, guess)
        return source_spectra(structure, values, state, ("E",), FREQUENCY, unit)["E"], state, error

    shifts = jnp.array([0.0, -0.1])
    found, state, error = jax.jit(jax.vmap(one, (0, None, None)))(shifts, values, node.initial_values())
    assert bool(jnp.all(is_found(error)))
    assert float(jnp.max(state["E"])) > 0.1  # not the origin

    def single(x):
        return x.astype(jnp.float32) if x.dtype == jnp.float64 else x

    with jax.enable_x64(False):
        compiled = jax.jit(one)
        given = jax.tree.map(single, (values, node.initial_values()))
        for shift, expected, rest in zip((0.0, -0.1), found, state["E"], strict=True):
            low, at, error = compiled(jnp.float32(shift), *given)
            assert low.dtype == jnp.complex64 and at["E"].dtype == jnp.float32 and bool(is_found(error))
            close(at["E"], rest, 1e-4)
            close(low, expected, 1e-4)


# --- simulation ----------------------------------------------------------------------------------------------------


def test_a_delayed_jansen_rit_network_fluctuates_as_predicted():
    """
    Error of the estimate within 1.3 of what its 7600 windows allow, 2 %.

    Time reversed, coherences are the same and phases are not: that is off by 28 %.
    """
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.1, 0.4, (3, 3)) * ~np.eye(3, dtype=bool)
    node = JansenRitStep(3, p=[60.0, 40.0, 70.0], noise_y4=10.0, method="heun")
    net = Network(
        node, weights, distance=rng.uniform(50.0, 200.0, (3, 3)), speed=5.0, coupling="additive", k=180.0
    )
    found = check_against_simulation(
        net,
        5.5,
        dt=1e-3,
        key=jax.random.key(1),
        outputs=("potential",),
        segment=0.5,
        band=(2.0, 30.0),
        transient=0.5,
        sample_every=4e-3,
        batch_size=400,
    )
    simulated, predicted = found.simulated["potential"], found.predicted["potential"]
    assert found.expected["potential"] < 0.025
    assert found.error["potential"] < 1.3 * found.expected["potential"]
    turned = np.linalg.norm(simulated - np.conj(predicted)) / np.linalg.norm(predicted)
    assert turned > 10.0 * found.expected["potential"]


# --- what cannot be done -------------------------------------------------------------------------------------------


def test_models_and_noise_without_a_linear_theory_are_refused():
    structure, values, unit = parts(BilinearDCMStep(2))
    state = {"x": jnp.zeros(2)}
    with pytest.raises(LinearError, match="BilinearDCMStep couple regions by themselves"):
        source_spectra(structure, values, state, ("x",), FREQUENCY, unit)
    with pytest.raises(LinearError, match="map in discrete time"):
        fixed_point(parts(get_model("HORNStep")(2))[0], {}, {})
    structure, values, unit = parts(LinearStep(2, noise_x=PinkNoise(sigma=0.1)))
    with pytest.raises(LinearError, match="noise_x of LinearStep is PinkNoise, which has no spectrum"):
        source_spectra(structure, values, state, ("x",), FREQUENCY, unit)
    structure, values, unit = parts(LinearStep(2))
    with pytest.raises(LinearError, match="no observable z; it has source"):
        source_spectra(structure, values, state, ("z",), FREQUENCY, unit)
    with pytest.raises(LinearError, match="no port z; it has current"):
        source_spectra(structure, values, state, ("x",), FREQUENCY, unit, {"z": 1.0})
    with pytest.raises(ValueError, match="time_unit is 'h'; it must be 'ms' or 's'"):
        source_spectra(structure, values, state, ("x",), FREQUENCY, "h")
    net = Network(LinearStep(2, noise_x=1.0), np.ones((2, 2)), delay=3.0 * np.ones((2, 2)))
    with pytest.raises(LinearError, match="integrate its spectra with covariance_from_spectra"):
        stationary_covariance(*parts(net)[:2], state, ("x",))


def test_unstable_and_missing_fixed_points_are_said():
    with pytest.raises(UnstableError, match=r"grows with 0\.8\d\d/s at 11\.2 Hz"):
        linear_theory(JansenRitStep(1, p=220.0, noise_y4=1.0), [10.0])
    with pytest.raises(FixedPointError, match="no fixed point of KuramotoStep"):
        linear_theory(get_model("KuramotoStep")(2, noise_theta=0.1), [10.0])
    with pytest.raises(ValueError, match="no frequency between 1 and 3 Hz"):
        node = LinearStep(1, noise_x=0.1, time_unit="s", gamma=-10.0)
        check_against_simulation(node, 2.0, dt=0.01, key=jax.random.key(0), segment=0.1, band=(1.0, 3.0))
