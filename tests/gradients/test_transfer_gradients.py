"""
Gradients of cross-spectra, the fixed point included, against finite differences in float64.

Differences are ``(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h`` with h of 1e-4 times the value: off by h^4 of the fifth
derivative, below 1e-12 here, and by the rounding of f over h, about 1e-10 for rates that differ by 1e5.
"""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import JansenRitStep, ReducedWongWangStep, get_model

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from brainloom.linear.equilibrium import fixed_point
from brainloom.linear.measured import observable_at
from brainloom.linear.transfer import source_spectra
from brainloom.models.lowering import all_values, node_of
from brainloom.network import Network
from brainloom.noise import OUProcess

N = 3
RNG = np.random.default_rng(5)
WEIGHTS = RNG.uniform(0.2, 0.9, (N, N)) * ~np.eye(N, dtype=bool)
DISTANCE = RNG.uniform(40.0, 150.0, (N, N))


def differences(f, theta):
    """Gradient of `f` by finite differences, one entry at a time, all in one program."""
    flat, back = ravel_pytree(theta)
    h = 1e-4 * np.maximum(np.abs(flat), 0.1)
    moves = jnp.asarray(np.concatenate([c * np.diag(h) for c in (1, -1, 2, -2)]))
    values = jax.jit(jax.vmap(lambda move: f(back(flat + move))))(moves).reshape(4, -1)
    return back((8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * h))


def agree(found, expected, rtol):
    """Relative to the largest entry of the same parameter: others may be differences of larger numbers."""
    for name, one in expected.items():
        one = np.asarray(one)
        size = np.abs(one).max()
        assert size > 0.0, name  # the parameter matters
        np.testing.assert_allclose(found[name], one, rtol=0, atol=rtol * size, err_msg=name)


def spectral_number(net, output, frequency):
    """A number that every entry of the spectra has its own weight in, whatever its size, of named values."""
    node = node_of(net)
    structure, values = net.structure("heun", node.DT), all_values(net)
    guess = node.initial_values()
    weight = jnp.asarray(RNG.normal(size=(3, len(frequency), N, N)))

    def number(theta):
        now = net.derived_values(values | theta)
        state, _ = fixed_point(structure, now, guess)
        found = source_spectra(structure, now, state, (output,), frequency, node.time_unit)[output]
        size = jnp.abs(found)
        phase = found / size
        return jnp.sum(weight[0] * jnp.log(size) + weight[1] * phase.real + weight[2] * phase.imag)

    return number, values


def test_jansen_rit_network_with_delays():
    drive = OUProcess(mean=5.0, sigma=10.0, tau=0.02)
    p = np.array([330.0, 340.0, 350.0])
    node = JansenRitStep(N, p=p, noise_y4=100.0, noise_rate_inhibitory=drive)
    net = Network(node, WEIGHTS, distance=DISTANCE, speed=8.0, coupling="additive", k=8.0)
    number, values = spectral_number(net, "potential", np.array([4.0, 10.5]))
    names = ["A", "b", "p", "r", "coupling.k", "weights", "noise_y4"]
    names += [f"noise_rate_inhibitory.{part}" for part in ("mean", "sigma", "tau")]
    theta = {name: values[name] for name in names}
    theta |= {"speed": jnp.asarray(8.0), "distance": jnp.asarray(DISTANCE)}
    agree(jax.jit(jax.grad(number))(theta), differences(number, theta), 1e-7)


def test_own_delays_and_a_saturating_coupling():
    """Wilson-Cowan regions that hear themselves late, with a parameter of the coupling per region."""
    noise = RNG.uniform(0.01, 0.03, N)
    node = get_model("WilsonCowanDelayedStep")(N, P=0.2, noise_E=0.02, noise_I=noise)
    shape = {"coupling": "tanh_presummation", "k": 0.5, "sigma": np.array([0.8, 1.0, 1.2])}
    net = Network(node, WEIGHTS, delay=DISTANCE / 10.0, **shape)
    number, values = spectral_number(net, "lfp", np.array([3.0, 40.0]))
    names = (
        "delay_ee",
        "delay_ei",
        "w_ee",
        "tau_i",
        "coupling.sigma",
        "coupling.midpoint",
        "delay",
        "noise_I",
    )
    theta = {name: values[name] for name in names}
    agree(jax.jit(jax.grad(number))(theta), differences(number, theta), 1e-7)


def test_second_derivatives_of_a_fixed_point():
    """Differences of gradients: the fixed point is implicit to every order."""
    node = ReducedWongWangStep(N)
    net = Network(node, WEIGHTS, coupling="additive", k=0.2)
    structure, values = net.structure("heun", node.DT), all_values(net)
    weight = jnp.asarray(RNG.normal(size=N))

    def number(theta):
        now = values | theta
        state, _ = fixed_point(structure, now, node.initial_values())
        return jnp.sum(weight * observable_at(structure, now, state, "rate"))

    theta = {name: values[name] for name in ("J_N", "I_o", "coupling.k", "weights")}
    along = {name: 0.05 * value for name, value in theta.items()}
    slope = jax.grad(number)
    found = jax.jit(lambda x: jax.jvp(slope, (x,), (along,))[1])(theta)
    h = 1e-3
    steps = jnp.array([1.0, -1.0, 2.0, -2.0]) * h
    slopes = jax.jit(jax.vmap(lambda h: slope({name: theta[name] + h * along[name] for name in theta})))(
        steps
    )
    agree(found, {name: (8 * (x[0] - x[1]) - (x[2] - x[3])) / (12 * h) for name, x in slopes.items()}, 1e-7)
