"""
Noise, synchronisation and correlations against the closed forms in the table of reference values.

Sample sizes make the standard error of each estimate at most a quarter of its tolerance; keys are fixed, so a pass is
a pass.
"""

from __future__ import annotations

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import Carrier, cases, one, plain

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import welch

from brainloom import (
    BrownNoise,
    Coupling,
    HopfStep,
    KuramotoStep,
    LinearStep,
    Network,
    OUProcess,
    PinkNoise,
    Simulator,
    lower,
)
from brainloom.linear.jacobian import network_jacobian
from brainloom.linear.lyapunov import lyapunov

KEY = jax.random.key(20)


@pytest.fixture(scope="module")
def order_parameters():
    """R at K = 3 and 8 in one run: 5000 quantiles of the Lorentzian, every phase coupled to every other."""
    n, gains = 5000, jnp.array([3.0, 8.0])
    omega = np.tan(np.pi * ((np.arange(n) + 0.5) / n - 0.5))
    weights = np.ones((n, n))
    # From one phase R relaxes at the rate K - 2 or faster, to 3e-4 until t = 8. Heun at 0.1 resolves all but the
    # outer 7 % of the Lorentzian, whose phases average out however they are stepped.
    node = KuramotoStep(n, omega=omega, init_theta=np.zeros(n))

    def order(gain):
        network = Network(node, weights, coupling="kuramoto", k=gain)
        found = Simulator(network, 0.1, method="heun").run(
            12.0, transient=8.0, sample_every=0.5, monitors=["sin", "cos"], check=False
        )
        return jnp.mean(jnp.hypot(jnp.mean(found["sin"], axis=-1), jnp.mean(found["cos"], axis=-1)))

    return dict(zip(("3.0", "8.0"), np.asarray(jax.jit(jax.vmap(order))(gains)), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("entry", cases("statistic", model="KuramotoStep"))
def test_order_parameter(entry, order_parameters):
    found = order_parameters[entry["id"].rpartition("K")[2]]
    np.testing.assert_allclose(found, entry["expected"]["R"], rtol=0, atol=entry["tolerance"]["atol"])


@pytest.mark.parametrize("entry", one("linear_hopf_network_fc"))
def test_correlations_of_a_linear_network(entry):
    given, expected, tolerance = entry["parameters"], entry["expected"], entry["tolerance"]
    node = HopfStep(
        3,
        a=np.array(given["a"]),
        w=2.0 * np.pi * np.array(given["f_hz"]),
        beta=0.0,
        noise_x=given["noise_amplitude"],
        noise_y=given["noise_amplitude"],
        init_x=0.0,
        init_y=0.0,
        time_unit="s",
    )
    pair = [Coupling("diffusive", name, f"{name}_input", k=given["G"], name=name) for name in ("x", "y")]
    network = Network(node, np.array(given["C"]), couplings=pair)
    upper = np.triu_indices(3, 1)

    # exactly, by the Lyapunov equation of the Jacobian
    low = lower(network, 0.1 * u.second)
    rest = {name: jnp.zeros(3) for name in ("x", "y")}
    drift = network_jacobian(low.structure, low.constrain(low.params), rest)
    covariance = np.asarray(lyapunov(drift, given["noise_amplitude"] ** 2 * jnp.eye(6)))[:3, :3]
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.diag(covariance), expected["var_x"], rtol=tolerance["rtol"])
    correlation = (covariance / np.outer(spread, spread))[upper]
    np.testing.assert_allclose(correlation, expected["FC_upper_01_02_12"], rtol=tolerance["rtol"])

    # by simulation: 1000 realisations, correlated over about 20 s, of 1000 s. x and y have the same law. Stochastic Heun
    # is of weak order 2: at 0.2 s and 0.4 rad/s its bias is below 1e-3.
    found = Simulator(network, 0.2 * u.second, method="stochastic_heun").run(
        1200.0 * u.second,
        transient=200.0 * u.second,
        sample_every=5.0 * u.second,
        monitors=["x", "y"],
        batch_size=1000,
        key=KEY,
        progress=False,
    )
    samples = np.concatenate([np.asarray(found[name]).reshape(-1, 3) for name in ("x", "y")])
    rtol = tolerance["rtol_simulation"]
    np.testing.assert_allclose((samples**2).mean(axis=0), expected["var_x"], rtol=rtol)
    np.testing.assert_allclose(np.corrcoef(samples.T)[upper], expected["FC_upper_01_02_12"], rtol=rtol)


@pytest.mark.parametrize("entry", one("ou_statistics"))
def test_ornstein_uhlenbeck(entry):
    given, expected, rtol = entry["parameters"], entry["expected"], entry["tolerance"]["rtol"]
    tau = 1.0 / given["theta"] * u.ms
    sigma = given["s"] * np.sqrt(0.5 / given["theta"])
    node = Carrier(500, noise_arriving=OUProcess(sigma=sigma, tau=tau))
    found = Simulator(node, 1.0 * u.ms).run(
        10000.0 * u.ms, sample_every=5.0 * u.ms, monitors=["arriving"], key=KEY
    )
    x = np.asarray(plain(found["arriving"], Carrier, "arriving"))
    assert x.shape == (2000, 500)
    # 1e6 samples: standard errors 0.15 % of the variance and 0.25 % of the correlation
    variance = (x**2).mean()
    np.testing.assert_allclose(variance, expected["var_exact"], rtol=rtol)
    np.testing.assert_allclose((x[1:] * x[:-1]).mean() / variance, expected["autocorr_lag5"], rtol=rtol)


@pytest.mark.parametrize("dt", [0.2, 0.05])
@pytest.mark.parametrize("entry", one("white_noise_linear_sde"))
def test_white_noise_of_a_linear_node(entry, dt):
    given = entry["parameters"]
    node = LinearStep(2000, gamma=given["gamma"], noise_x=given["noise_amplitude"])
    found = Simulator(node, dt, method="euler_maruyama").run(
        460.0, transient=60.0, sample_every=10.0, monitors=["x"], key=KEY
    )
    # 80000 samples, correlated by exp(-1): 0.6 %; the bias of Euler-Maruyama is |gamma| dt / 2 <= 1 %
    variance = (np.asarray(found["x"]) ** 2).mean()
    np.testing.assert_allclose(variance, entry["expected"]["variance"], rtol=entry["tolerance"]["rtol"])


@pytest.mark.slow
@pytest.mark.parametrize("entry", one("coloured_noise_slopes"))
def test_slopes_of_coloured_noise(entry):
    for name, process in (("pink", PinkNoise), ("brown", BrownNoise)):
        node = Carrier(20, noise_arriving=process(sigma=1.0, f_min=0.1 * u.Hz))
        found = Simulator(node, 1.0 * u.ms).run(32768.0 * u.ms, monitors=["arriving"], key=KEY)
        x = np.asarray(plain(found["arriving"], Carrier, "arriving"))
        frequency, power = welch(x, fs=1000.0, nperseg=4096, axis=0)
        # two decades, away from the lowest frequencies that a segment resolves and from the Nyquist frequency
        band = (frequency >= 1.0) & (frequency <= 200.0)
        slope = np.polyfit(np.log(frequency[band]), np.log(power.mean(axis=1)[band]), 1)[0]
        np.testing.assert_allclose(
            slope, entry["expected"][name], rtol=0, atol=entry["tolerance"]["atol"], err_msg=name
        )
