"""Bilinear dynamic causal model of a task: regions whose coupling the inputs modulate."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import plain
from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State


class BilinearDCMStep(NeuralMass):
    """
    Bilinear neuronal model ``x' = (A + sum_k u_k B_k) x + C u``; a haemodynamic model makes BOLD of it.

    Time is in s, rates in Hz.

    Parameters
    ----------
    in_size : int
        Number of regions N.
    A : (N, N) array, Quantity or Param
        Connectivity (Hz), ``A[i, j]`` from j to i; its diagonal is negative. By default -0.5 Hz each, and
        0.4 Hz from every region to the next.
    B : (K, N, N) array, Quantity or Param
        Change of A by each of the K inputs (Hz); 0 by default.
    C : (N, K) array, Quantity or Param
        Direct effect of the inputs (Hz); by default the first input drives the first region with 1 Hz.
    log_self : float, (N,) array or Param, optional
        a_ii: if given, the diagonal of A is ``-0.5 exp(a_ii)``, negative for every a_ii: the form to fit.
    init_x, noise_x
        See `NeuralMass`. It starts at rest, x = 0.
    method : str
        ``rk4`` by default: the regions depend on each other inside the model.

    Warns
    -----
    UserWarning
        An eigenvalue of A has a positive real part: without input, x grows without bound.

    Notes
    -----
    Port ``input`` (1, (..., K), last axis input, not region). Source, BOLD and EEG are x. Without modulation
    the system is linear with the transfer function ``(i w - A)^-1 C``, see `transfer_function`.

    References
    ----------
    Friston, Harrison & Penny 2003, NeuroImage 19:1273.
    """

    STATES = (State("x", 0.0, long_name="neuronal activity", span=(-1.0, 1.0)),)
    PARAMETERS = (
        Parameter("A", lambda n: -0.5 * np.eye(n) + 0.4 * np.eye(n, k=-1), (-1.0, 1.0), "Hz", "connectivity"),
        Parameter("B", lambda n: np.zeros((1, n, n)), (-1.0, 1.0), "Hz", "modulation of connectivity"),
        Parameter("C", lambda n: np.eye(n, 1), (-1.0, 1.0), "Hz", "effect of inputs"),
    )
    PORTS = (Port("input", "1", "x"),)
    TIME_UNIT: ClassVar = "s"
    CATEGORY: ClassVar = "network"
    USE: ClassVar = "effective connectivity in tasks"
    DT: ClassVar = 0.05
    METHOD: ClassVar = "rk4"

    def __init__(self, in_size: int, *, log_self: Any = None, method: str = "rk4", **parameters: Any) -> None:
        self.log_self = log_self
        given = {name: _shape(parameters[name]) for name in ("B", "C") if parameters.get(name) is not None}
        if "C" in given and "B" not in given:
            parameters["B"] = np.zeros((given["C"][-1], in_size, in_size))
        elif "B" in given and "C" not in given:
            parameters["C"] = np.eye(in_size, given["B"][0])
        super().__init__(in_size, method=method, **parameters)
        values = self.parameter_values()
        n_inputs = values["C"].shape[-1]
        for name, shape in (
            ("A", (in_size, in_size)),
            ("B", (n_inputs, in_size, in_size)),
            ("C", (in_size, n_inputs)),
        ):
            if values[name].shape != shape:
                raise ValueError(
                    f"{name} of BilinearDCMStep has shape {values[name].shape}; {in_size} regions and "
                    f"{n_inputs} inputs need {shape}"
                )
        if not isinstance(values["A"], jax.core.Tracer):
            growth = float(np.max(np.linalg.eigvals(np.asarray(values["A"])).real))
            if growth > 0.0:
                warnings.warn(
                    f"A of BilinearDCMStep has an eigenvalue with real part {growth:.3g} Hz > 0: activity grows "
                    "without bound; make the self-connections more negative or the others weaker",
                    stacklevel=2,
                )

    def parameter_values(self) -> Arrays:
        """See `NeuralMass.parameter_values`; A has the diagonal of `log_self` if that is given."""
        return self.derived_values(super().parameter_values())

    def trainable(self) -> dict[str, brainstate.nn.Param]:
        """See `NeuralMass.trainable`; with `log_self`."""
        own = self.log_self
        extra = {"log_self": own} if isinstance(own, brainstate.nn.Param) and own.fit else {}
        return super().trainable() | extra

    def read_value(self, name: str, value: Any) -> jax.Array:
        """See `NeuralMass.read_value`."""
        if name == "log_self":
            return plain(value, "1", "log_self of BilinearDCMStep", self.time_unit)
        return super().read_value(name, value)

    def derived_values(self, values: Arrays) -> Arrays:
        """See `NeuralMass.derived_values`; the diagonal of A follows from `log_self`."""
        if self.log_self is None:
            return values
        log_self = values["log_self"] if "log_self" in values else self._read("log_self")
        own = jnp.eye(self.varshape[0], dtype=bool)
        return values | {"A": jnp.where(own, -0.5 * jnp.exp(log_self), values["A"])}

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, c = state["x"], params["C"]
        slope = jnp.einsum("...ij,...j->...i", params["A"], x)
        if "input" not in inputs:
            return {"x": slope}
        u = jnp.broadcast_to(inputs["input"], (*jnp.shape(inputs["input"])[:-1], c.shape[-1]))
        changed = jnp.einsum("...kij,...j->...ki", params["B"], x)
        driven = jnp.einsum("...ik,...k->...i", c, u)
        return {"x": slope + jnp.einsum("...k,...ki->...i", u, changed) + driven}


def transfer_function(A: jax.Array, C: jax.Array, frequency: jax.Array) -> jax.Array:
    """
    Response of the activity to an oscillating input, ``(i w - A)^-1 C`` with ``w = 2 pi frequency``.

    Parameters
    ----------
    A : (region, region) array, Hz
    C : (region, input) array, Hz
    frequency : (frequency,) array, Hz

    Returns
    -------
    complex (frequency, region, input) array
    """
    turn = 2j * jnp.pi * jnp.asarray(frequency)[:, None, None] * jnp.eye(A.shape[-1])
    return jnp.linalg.solve(turn - A, jnp.broadcast_to(C.astype(turn.dtype), (*turn.shape[:-1], C.shape[-1])))


def _shape(value: Any) -> tuple[int, ...]:
    return jnp.shape(value.value() if isinstance(value, brainstate.nn.Param) else value)
