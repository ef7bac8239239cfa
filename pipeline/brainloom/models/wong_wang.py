"""Wong-Wang models of synaptic gating: the two-choice decision circuit, and one excitatory population."""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainloom.core.units import plain
from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port
from brainloom.models.functions import wong_wang_transfer
from brainloom.noise.base import NoiseProcess

_TRANSFER = (
    Parameter("a", 270.0, (200.0, 350.0), "Hz/nA", "slope of the transfer function"),
    Parameter("b", 108.0, (80.0, 140.0), "Hz", "threshold of the transfer function"),
    Parameter("d", 0.154, (0.05, 0.3), "s", "curvature of the transfer function"),
    Parameter("gamma", 0.641, (0.2, 1.0), "1", "gating per spike"),
    Parameter("tau_S", 0.1, (0.02, 0.3), "s", "decay time of NMDA gating"),
)


class WongWangStep(NeuralMass):
    """
    Two selective populations that compete for a decision.

    ``S_i' = -S_i / tau_S + (1 - S_i) gamma H(x_i)``, i = 1, 2, with::

        x_1 = J_N11 S1 - J_N12 S2 + I_0 + J_A_ext mu_0 (1 + coherence) + current_1
        x_2 = J_N22 S2 - J_N21 S1 + I_0 + J_A_ext mu_0 (1 - coherence) + current_2
        H(x) = (a x - b) / (1 - exp(-d (a x - b)))

    Time is in s, rates in Hz, currents in nA. The larger evidence wins: one gating variable goes up, the other
    down; see `decision`.

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, b, d : float, (region,) array, Quantity or Param
        Slope (Hz/nA), threshold (Hz) and curvature (s) of the transfer function.
    gamma, tau_S : as above
        Gating per spike (1) and decay time of NMDA gating (s).
    J_N11, J_N22, J_N12, J_N21 : as above
        Self-excitation of either population, inhibition of 1 by 2 and of 2 by 1 (nA).
    I_0 : as above
        Background current (nA).
    J_A_ext, mu_0 : as above
        Synaptic weight (nA/Hz) and rate (Hz) of the stimulus.
    coherence : as above
        Evidence for 1, a fraction of the stimulus from -1 to 1, not a percentage.
    sigma_noise : float, (region,) array, Quantity or Param, optional
        Amplitude (nA, published 0.02) of the noise currents
        ``tau_noise dI = -I dt + sigma_noise sqrt(tau_noise) dW``, stationary variance ``sigma_noise^2 / 2``,
        one for each population. None is no noise: the deterministic equations.
    tau_noise : as above
        Their time constant (s).
    init_S1, init_S2, noise_S1, noise_S2, noise_current_1, noise_current_2, method
        See `NeuralMass`. A process given as ``noise_current_1`` replaces the one of `sigma_noise`.

    Notes
    -----
    Ports ``coherence`` (1, added to the parameter), ``current_1`` and ``current_2`` (nA). There is no default
    coupling port: a network names one. Observables ``r1`` and ``r2`` (Hz) are the rates H(x_i) at the current
    inputs, ``S_total`` is S1 + S2. Source is S1, BOLD and EEG are S_total.

    A threshold-linear transfer function with ``J_A_ext = 2.243e-4`` nA/Hz, found in some packages, makes both
    populations saturate, and nobody wins.

    References
    ----------
    Wong & Wang 2006, J Neurosci 26:1314 (two-variable model, full transfer function).
    """

    STATES = (
        State("S1", 0.1, long_name="gating of population 1", span=(0.0, 0.7)),
        State("S2", 0.1, long_name="gating of population 2", span=(0.0, 0.7)),
    )
    PARAMETERS = (
        *_TRANSFER,
        Parameter("J_N11", 0.2609, (0.0, 0.5), "nA", "self-excitation of 1"),
        Parameter("J_N22", 0.2609, (0.0, 0.5), "nA", "self-excitation of 2"),
        Parameter("J_N12", 0.0497, (0.0, 0.5), "nA", "inhibition of 1 by 2"),
        Parameter("J_N21", 0.0497, (0.0, 0.5), "nA", "inhibition of 2 by 1"),
        Parameter("J_A_ext", 5.2e-4, (1e-4, 1e-3), "nA/Hz", "weight of the stimulus"),
        Parameter("mu_0", 30.0, (0.0, 60.0), "Hz", "rate of the stimulus"),
        Parameter("I_0", 0.3255, (0.3, 0.36), "nA", "background current"),
        Parameter("coherence", 0.0, (-1.0, 1.0), "1", "evidence for 1"),
    )
    PORTS = (Port("coherence", "1", "S1"), Port("current_1", "nA", "S1"), Port("current_2", "nA", "S2"))
    OBSERVABLES: ClassVar = {
        "r1": Observable(
            lambda p, s, i: wong_wang_transfer(_inputs_of_both(p, s, i)[0], p["a"], p["b"], p["d"]),
            "Hz",
            driven=True,
            long_name="rate of population 1",
        ),
        "r2": Observable(
            lambda p, s, i: wong_wang_transfer(_inputs_of_both(p, s, i)[1], p["a"], p["b"], p["d"]),
            "Hz",
            driven=True,
            long_name="rate of population 2",
        ),
        "S_total": Observable(lambda p, s: s["S1"] + s["S2"], long_name="gating of both"),
    }
    SOURCE: ClassVar = "S1"
    BOLD: ClassVar = "S_total"
    EEG: ClassVar = "S_total"
    TIME_UNIT: ClassVar = "s"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "two-choice decisions"
    DT: ClassVar = 1e-3
    METHOD: ClassVar = "heun"
    DEFAULT_PORT: ClassVar = False

    def __init__(
        self, in_size: int, *, sigma_noise: Any = None, tau_noise: Any = 2e-3, **parameters: Any
    ) -> None:
        self.sigma_noise = sigma_noise
        self.tau_noise = tau_noise
        super().__init__(in_size, **parameters)

    def trainable(self) -> dict[str, brainstate.nn.Param]:
        """See `NeuralMass.trainable`; with `sigma_noise` and `tau_noise`."""
        own = {name: getattr(self, name) for name in ("sigma_noise", "tau_noise")}
        return super().trainable() | {
            name: value for name, value in own.items() if isinstance(value, brainstate.nn.Param) and value.fit
        }

    def read_value(self, name: str, value: Any) -> jax.Array:
        """See `NeuralMass.read_value`."""
        units = {"sigma_noise": "nA", "tau_noise": "s"}
        if name not in units:
            return super().read_value(name, value)
        return plain(value, units[name], f"{name} of WongWangStep", self.time_unit)

    def derived_values(self, values: Arrays) -> Arrays:
        """See `NeuralMass.derived_values`; the noise of both ports follows from `sigma_noise` and `tau_noise`."""
        found = dict(values)
        for slot in self._own_noise():
            if "sigma_noise" in values:
                found[f"noise_{slot}.sigma"] = values["sigma_noise"] / sqrt(2.0)
            if "tau_noise" in values:
                found[f"noise_{slot}.tau"] = values["tau_noise"]
        return found

    def noise_slots(self) -> dict[str, NoiseProcess]:
        """See `NeuralMass.noise_slots`; with `sigma_noise`, both current ports have an OU process."""
        slots = super().noise_slots()
        own = self._own_noise()
        if not own:
            return slots
        from brainloom.noise.processes import OUProcess

        # OUProcess takes the stationary standard deviation.
        sigma, tau = self._read("sigma_noise") / sqrt(2.0), self._read("tau_noise")
        return slots | {slot: OUProcess(sigma=sigma, tau=tau) for slot in own}

    def _own_noise(self) -> list[str]:
        """The current ports whose noise is that of `sigma_noise`."""
        ports = ("current_1", "current_2") if self.sigma_noise is not None else ()
        return [name for name in ports if getattr(self, f"noise_{name}") is None]

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        a, b, d, gamma, tau = (params[name] for name in ("a", "b", "d", "gamma", "tau_S"))
        x1, x2 = _inputs_of_both(params, state, inputs)
        s1, s2 = state["S1"], state["S2"]
        return {
            "S1": -s1 / tau + (1.0 - s1) * gamma * wong_wang_transfer(x1, a, b, d),
            "S2": -s2 / tau + (1.0 - s2) * gamma * wong_wang_transfer(x2, a, b, d),
        }


def _inputs_of_both(params: Arrays, state: Arrays, inputs: Arrays) -> tuple[jax.Array, jax.Array]:
    s1, s2 = state["S1"], state["S2"]
    stimulus = params["J_A_ext"] * params["mu_0"]
    bias = stimulus * (params["coherence"] + port(inputs, "coherence"))
    common = params["I_0"] + stimulus
    x1 = params["J_N11"] * s1 - params["J_N12"] * s2 + common + bias + port(inputs, "current_1")
    x2 = params["J_N22"] * s2 - params["J_N21"] * s1 + common - bias + port(inputs, "current_2")
    return x1, x2


def decision(r1: Any, r2: Any, times: Any, threshold: Any = 15.0) -> tuple[jax.Array, Any]:
    """
    The population that wins, and when.

    The winner is the larger of the two rates at the first sample where it has reached the threshold.

    Parameters
    ----------
    r1, r2 : (time, ...) array or Quantity, Hz
        Rates, such as the observables of `WongWangStep`.
    times : (time,) array or Quantity
    threshold : float or Quantity, Hz

    Returns
    -------
    choice : (...) array of int
        1, 2, or 0 if there is no decision.
    time : (...) array, or Quantity if `times` is one
        Of that sample; NaN if there is no decision.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> choice, time = decision(jnp.array([5.0, 9.0, 16.0]), jnp.array([5.0, 4.0, 2.0]), jnp.array([0.0, 0.1, 0.2]))
    >>> int(choice), round(float(time), 6)
    (1, 0.2)
    """
    first, second = plain(r1, "Hz", "r1", "s"), plain(r2, "Hz", "r2", "s")
    reached = jnp.maximum(first, second) >= plain(threshold, "Hz", "threshold", "s")
    won = reached & (first != second)
    decided, at = jnp.any(won, axis=0), jnp.argmax(won, axis=0)
    ahead = jnp.take_along_axis(first > second, at[None], axis=0)[0]
    choice = jnp.where(decided, jnp.where(ahead, 1, 2), 0)
    unit = times.unit if isinstance(times, u.Quantity) else None
    values = jnp.asarray(times if unit is None else times.to_decimal(unit), jnp.result_type(float))
    when = jnp.where(decided, values[at], jnp.nan)
    return choice, when if unit is None else when * unit


class ReducedWongWangStep(NeuralMass):
    """
    One excitatory population with NMDA gating: the dynamic mean field of resting-state models.

    ``S' = -S / tau_S + (1 - S) gamma H(x)``, ``x = w J_N S + I_o + J_N excitatory_gating + current``, with
    ``H(x) = (a x - b) / (1 - exp(-d (a x - b)))``. Time is in s, rates in Hz, currents in nA.

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, b, d : float, (region,) array, Quantity or Param
        Slope (Hz/nA), threshold (Hz) and curvature (s) of the transfer function.
    gamma, tau_S : as above
        Gating per spike (1) and decay time of NMDA gating (s).
    J_N : as above
        Synaptic coupling (nA).
    w : as above
        Local recurrence (1).
    I_o : as above
        Background current (nA). Another common set is ``w=0.6, I_o=0.33``.
    init_S, noise_S, method
        See `NeuralMass`. The published white noise on S is 0.001 per sqrt(ms), that is 0.0316 per sqrt(s),
        the unit of ``noise_S``.

    Notes
    -----
    Ports ``excitatory_gating`` (default, 1: ``G sum_j W_ij S_j``, the gain G belongs to the coupling) and
    ``current`` (nA). Source, BOLD and EEG are S. Observable ``rate`` is H(x) (Hz) at the current inputs.

    References
    ----------
    Deco et al. 2013, J Neurosci 33:11239. Regional parameters: Wang et al. 2019, Science Advances 5:eaat7854;
    Kong et al. 2021, Nature Communications 12:6373.
    """

    STATES = (State("S", 0.1, long_name="gating", span=(0.0, 1.0)),)
    PARAMETERS = (
        *_TRANSFER,
        Parameter("J_N", 0.2609, (0.1, 0.5), "nA", "synaptic coupling"),
        Parameter("w", 0.9, (0.0, 1.5), "1", "local recurrence"),
        Parameter("I_o", 0.3, (0.0, 0.5), "nA", "background current"),
    )
    PORTS = (Port("excitatory_gating", "1", "S"), Port("current", "nA", "S"))
    OBSERVABLES: ClassVar = {
        "rate": Observable(
            lambda p, s, i: wong_wang_transfer(_input_of_one(p, s, i), p["a"], p["b"], p["d"]),
            "Hz",
            driven=True,
            long_name="firing rate",
        )
    }
    TIME_UNIT: ClassVar = "s"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "resting-state BOLD"
    DT: ClassVar = 1e-3
    METHOD: ClassVar = "heun"
    NOISE: ClassVar = {"S": 0.001 * sqrt(1000.0)}

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        s = state["S"]
        rate = wong_wang_transfer(_input_of_one(params, state, inputs), params["a"], params["b"], params["d"])
        return {"S": -s / params["tau_S"] + (1.0 - s) * params["gamma"] * rate}


def _input_of_one(params: Arrays, state: Arrays, inputs: Arrays) -> jax.Array:
    gating = params["w"] * state["S"] + port(inputs, "excitatory_gating")
    return params["J_N"] * gating + params["I_o"] + port(inputs, "current")
