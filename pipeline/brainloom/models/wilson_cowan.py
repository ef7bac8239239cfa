"""Wilson-Cowan populations: the published model, and variants with fewer terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port
from brainloom.models.functions import logistic, rectified


def gain_of(params: Arrays, population: str, x: jax.Array) -> jax.Array:
    """Response ``F(x) = s(a (x - theta)) - s(-a theta)`` of population e, i or m; see `WilsonCowan`."""
    a, theta = params[f"a_{population}"], params[f"theta_{population}"]
    return logistic(a * (x - theta)) - _offset(params, population)


def relaxation(params: Arrays, population: str, level: jax.Array, gain: jax.Array) -> jax.Array:
    """``(-level + (k - r level) gain) / tau``: how every population follows its response."""
    ceiling = 1.0 - _offset(params, population) if "k_max" in params else params[f"k_{population}"]
    free = ceiling - params[f"r_{population}"] * level
    return (free * gain - level) / params[f"tau_{population}"]


def _offset(params: Arrays, population: str) -> jax.Array:
    """What makes the response vanish at rest; none with ``shift=False``."""
    rest = logistic(-params[f"a_{population}"] * params[f"theta_{population}"])
    return params.get("shift", 1.0) * rest


def local_inputs(
    params: Arrays, inputs: Arrays, e_e: jax.Array, e_i: jax.Array, i_e: jax.Array, i_i: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Arguments of the two responses; ``i_e`` is the excitatory activity that reaches the inhibitory population."""
    onto_e = params["w_ee"] * e_e - params["w_ei"] * e_i + (params["P"] + port(inputs, "drive_e"))
    onto_i = params["w_ie"] * i_e - params["w_ii"] * i_i + (params["Q"] + port(inputs, "drive_i"))
    return onto_e, onto_i


def both_populations(params: Arrays, state: Arrays, onto_e: jax.Array, onto_i: jax.Array) -> Arrays:
    """Derivatives of E and I from the arguments of their responses."""
    return {
        "E": relaxation(params, "e", state["E"], gain_of(params, "e", onto_e)),
        "I": relaxation(params, "i", state["I"], gain_of(params, "i", onto_i)),
    }


def changed(base: tuple[Parameter, ...], without: tuple[str, ...] = (), **new: Any) -> tuple[Parameter, ...]:
    """
    Declared parameters of a variant.

    Parameters
    ----------
    base : tuple of Parameter
    without : tuple of str
        Names to leave out.
    **new
        A number is another default; a `Parameter` is added at the end.
    """
    kept = tuple(
        Parameter(p.name, new.get(p.name, p.default), p.bounds, p.unit, p.long_name)
        for p in base
        if p.name not in without
    )
    return kept + tuple(value for value in new.values() if isinstance(value, Parameter))


class WilsonCowan(NeuralMass):
    """
    What the Wilson-Cowan models share: two populations, their ports and observables, and two options.

    Parameters
    ----------
    in_size : int
        Number of regions.
    k : {None, "max"}
        ``"max"`` puts ``k = max F = 1 - s(-a theta)``, as published, in place of the parameters ``k_e``, ``k_i``.
    shift : bool
        False drops the ``- s(-a theta)`` of the response; some toolkits do so, and their numbers differ.
    **parameters
        See `NeuralMass`.

    Raises
    ------
    ValueError
        `k` is neither None nor ``"max"``, or it is given together with a ceiling of its own.
    """

    STATES: ClassVar[tuple[State, ...]] = (
        State("E", 0.1, long_name="active excitatory fraction", span=(0.0, 0.5)),
        State("I", 0.05, long_name="active inhibitory fraction", span=(0.0, 0.5)),
    )
    PORTS: ClassVar[tuple[Port, ...]] = (Port("drive_e", "1", "E"), Port("drive_i", "1", "I"))
    OBSERVABLES: ClassVar[Mapping[str, Observable]] = {
        "lfp": Observable(lambda params, state: state["E"] - state["I"], long_name="E - I")
    }
    SOURCE: ClassVar = "E"
    EEG: ClassVar = "lfp"
    CATEGORY: ClassVar = "physiological"
    DT: ClassVar = 0.5
    # Options that other responses cannot have.
    SIGMOID: ClassVar[bool] = True

    def __init__(self, in_size: int, *, k: str | None = None, shift: bool = True, **parameters: Any) -> None:
        own = sorted({"k_e", "k_i", "k_m"} & set(parameters))
        if k not in (None, "max"):
            raise ValueError(f"k is {k!r}; it must be None or 'max', and numbers are given as k_e, k_i")
        if k == "max" and own:
            raise ValueError(f"k='max' sets {', '.join(own)} from the response; give one of the two")
        if not self.SIGMOID and (k is not None or not shift):
            raise ValueError(f"{type(self).__name__} has no sigmoid, so k='max' and shift=False mean nothing")
        self._options = ({"k_max": 1.0} if k == "max" else {}) | ({} if shift else {"shift": 0.0})
        super().__init__(in_size, **parameters)

    def parameter_values(self) -> Arrays:
        """See `NeuralMass.parameter_values`; an option that is on is one entry more."""
        dtype = jnp.result_type(float)
        return super().parameter_values() | {k: jnp.asarray(v, dtype) for k, v in self._options.items()}


class WilsonCowanStep(WilsonCowan):
    """
    Wilson-Cowan model of an excitatory and an inhibitory population.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_ee E - w_ei I + P + drive_e)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_ie E - w_ii I + Q + drive_i)``, with
    ``F(x) = s(a (x - theta)) - s(-a theta)`` and ``s(x) = 1 / (1 + exp(-x))``, so that ``F(0) = 0``.

    Weights are not negative: ``w_ei`` is onto E from I, ``w_ie`` onto I from E, and the signs are in the
    equations. All variants use these names; elsewhere the letters of ``ei`` and ``ie`` change their meaning
    from one variant to the next.

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    a_e, a_i, theta_e, theta_i
        Slope and threshold of the responses, 1.
    w_ee, w_ei, w_ie, w_ii
        Weights, 1.
    r_e, r_i, k_e, k_i
        Refractoriness, and ceiling of the active fraction, 1.
    P, Q
        Constant inputs to E and I, 1.
    k : {None, "max"}
        ``"max"``: ``k = max F = 1 - s(-a theta)``, as published.
    shift : bool
        False drops the ``- s(-a theta)``.
    init_E, init_I, noise_E, noise_I, method
        See `NeuralMass`.

    Notes
    -----
    Ports ``drive_e`` (default) and ``drive_i`` (1), inside the responses. Source and BOLD are E, EEG is
    ``lfp = E - I``. `PRESETS` holds sets of parameters: with ``oscillation`` the populations oscillate.

    With the defaults the model rests at (0, 0); with ``P = 1`` it goes to (0.48431, 0.25846), whatever the
    time constants.

    References
    ----------
    Wilson & Cowan 1972, Biophysical Journal 12:1.

    Examples
    --------
    >>> from brainloom.models.wilson_cowan import WilsonCowanStep
    >>> node = WilsonCowanStep(1, **WilsonCowanStep.PRESETS["oscillation"])
    >>> {k: round(float(v), 5) for k, v in node.derivative({"E": 0.1, "I": 0.05}).items()}
    {'E': -0.0021, 'I': -0.0042}
    """

    PARAMETERS = (
        Parameter("tau_e", 10.0, (1.0, 100.0), "ms", "excitatory time constant"),
        Parameter("tau_i", 10.0, (1.0, 100.0), "ms", "inhibitory time constant"),
        Parameter("a_e", 1.2, (0.1, 5.0), "1", "slope of the excitatory response"),
        Parameter("a_i", 1.0, (0.1, 5.0), "1", "slope of the inhibitory response"),
        Parameter("theta_e", 2.8, (0.0, 10.0), "1", "threshold of the excitatory response"),
        Parameter("theta_i", 4.0, (0.0, 10.0), "1", "threshold of the inhibitory response"),
        Parameter("w_ee", 12.0, (0.0, 40.0), "1", "weight onto E from E"),
        Parameter("w_ei", 4.0, (0.0, 40.0), "1", "weight onto E from I"),
        Parameter("w_ie", 13.0, (0.0, 40.0), "1", "weight onto I from E"),
        Parameter("w_ii", 11.0, (0.0, 40.0), "1", "weight onto I from I"),
        Parameter("r_e", 1.0, (0.0, 2.0), "1", "refractoriness of E"),
        Parameter("r_i", 1.0, (0.0, 2.0), "1", "refractoriness of I"),
        Parameter("k_e", 1.0, (0.0, 1.0), "1", "ceiling of E"),
        Parameter("k_i", 1.0, (0.0, 1.0), "1", "ceiling of I"),
        Parameter("P", 0.0, (-5.0, 10.0), "1", "constant input to E"),
        Parameter("Q", 0.0, (-5.0, 10.0), "1", "constant input to I"),
    )
    PRESETS: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "oscillation": {
            "w_ee": 16.0, "w_ei": 12.0, "w_ie": 15.0, "w_ii": 3.0,
            "a_e": 1.3, "a_i": 2.0, "theta_e": 4.0, "theta_i": 3.7, "P": 1.25,
        }
    }  # fmt: skip
    USE: ClassVar = "excitation and inhibition; rest, bistability, oscillations"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        e, i = state["E"], state["I"]
        onto_e, onto_i = local_inputs(params, inputs, e, i, e, i)
        return both_populations(params, state, onto_e, onto_i)


_PUBLISHED = WilsonCowanStep.PARAMETERS


class WilsonCowanNoSaturationStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model without refractoriness: `WilsonCowanStep` with ``r_e = r_i = 0``.

    ``tau_e E' = -E + k_e F_e(w_ee E - w_ei I + P + drive_e)``,
    ``tau_i I' = -I + k_i F_i(w_ie E - w_ii I + Q + drive_i)``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    a_e, a_i, theta_e, theta_i, w_ee, w_ei, w_ie, w_ii, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, init_E, init_I, noise_E, noise_I, method
        See `WilsonCowanStep`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1.
    """

    PARAMETERS = changed(_PUBLISHED, without=("r_e", "r_i"))
    USE: ClassVar = "Wilson-Cowan variant: no refractory term"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        return WilsonCowanStep.rhs(params | {"r_e": 0.0, "r_i": 0.0}, state, inputs, t)  # type: ignore[arg-type]


class WilsonCowanSymmetricStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model whose populations share time constant, slope and threshold.

    ``tau E' = -E + (k_e - r_e E) F(w_ee E - w_ei I + P + drive_e)``,
    ``tau I' = -I + (k_i - r_i I) F(w_ie E - w_ii I + Q + drive_i)``.

    Parameters
    ----------
    in_size : int
    tau : float, (region,) array, Quantity or Param
        Time constant, ms.
    a, theta
        Slope and threshold of the response, 1.
    w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, init_E, init_I, noise_E, noise_I, method
        See `WilsonCowanStep`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1.
    """

    PARAMETERS = changed(
        _PUBLISHED,
        without=("tau_e", "tau_i", "a_e", "a_i", "theta_e", "theta_i"),
        tau=Parameter("tau", 10.0, (1.0, 100.0), "ms", "time constant"),
        a=Parameter("a", 1.1, (0.1, 5.0), "1", "slope of the response"),
        theta=Parameter("theta", 3.4, (0.0, 10.0), "1", "threshold of the response"),
    )
    USE: ClassVar = "Wilson-Cowan variant: one kind of population"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        shared = {
            f"{name}_{population}": params[name] for name in ("tau", "a", "theta") for population in "ei"
        }
        return WilsonCowanStep.rhs(params | shared, state, inputs, t)


class WilsonCowanSimplifiedStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model in which both populations receive the same local input.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_exc E - w_inh I + P + drive_e)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_exc E - w_inh I + Q + drive_i)``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    w_exc, w_inh
        Weights of E and of I onto both populations, 1.
    a_e, a_i, theta_e, theta_i, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, init_E, init_I, noise_E, noise_I, method
        See `WilsonCowanStep`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1.
    """

    PARAMETERS = changed(
        _PUBLISHED,
        without=("w_ee", "w_ei", "w_ie", "w_ii"),
        w_exc=Parameter("w_exc", 8.0, (0.0, 40.0), "1", "weight from E"),
        w_inh=Parameter("w_inh", 12.0, (0.0, 40.0), "1", "weight from I"),
    )
    USE: ClassVar = "Wilson-Cowan variant: two weights instead of four"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        local = params["w_exc"] * state["E"] - params["w_inh"] * state["I"]
        onto_e = local + (params["P"] + port(inputs, "drive_e"))
        onto_i = local + (params["Q"] + port(inputs, "drive_i"))
        return both_populations(params, state, onto_e, onto_i)


class WilsonCowanLinearStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model with the threshold-linear response ``F(x) = max(x, 0)``.

    ``tau_e E' = -E + (k_e - r_e E) max(w_ee E - w_ei I + P + drive_e, 0)``,
    ``tau_i I' = -I + (k_i - r_i I) max(w_ie E - w_ii I + Q + drive_i, 0)``. The derivative of ``max(x, 0)`` at 0
    is 0.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    init_E, init_I, noise_E, noise_I, method
        See `NeuralMass`. The options `k` and `shift` of a sigmoid are refused.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1.
    """

    PARAMETERS = changed(
        _PUBLISHED, without=("a_e", "a_i", "theta_e", "theta_i"), w_ee=0.8, w_ei=0.3, w_ie=1.0, w_ii=0.85
    )
    SIGMOID: ClassVar = False
    USE: ClassVar = "Wilson-Cowan variant: threshold-linear response"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        e, i = state["E"], state["I"]
        onto_e, onto_i = local_inputs(params, inputs, e, i, e, i)
        return {
            "E": relaxation(params, "e", e, rectified(onto_e)),
            "I": relaxation(params, "i", i, rectified(onto_i)),
        }
