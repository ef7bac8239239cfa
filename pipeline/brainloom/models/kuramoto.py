"""Phase oscillator: the node of Kuramoto networks."""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port


class KuramotoStep(NeuralMass):
    """
    Phase oscillator ``theta' = omega + phase_drive``.

    With the Kuramoto coupling into ``phase_drive`` the network is the model of Kuramoto, with a phase lag that
    of Sakaguchi & Kuramoto.

    Parameters
    ----------
    in_size : int
        Number of regions.
    omega : float, (region,) array, Quantity or Param
        Angular frequency, rad/time, [0.001, 2] for fitting.
    init_theta, noise_theta, method, time_unit
        See `NeuralMass`. Unless `init_theta` is given, phases start uniformly in [0, 2 pi), drawn from the key
        of the run.

    Notes
    -----
    Port ``phase_drive`` (rad/time). Source is theta, which grows without bound: a state that wraps would
    break differences with delayed phases. Observables ``sin`` (BOLD) and ``cos`` (EEG).

    References
    ----------
    Kuramoto 1975, Lecture Notes in Physics 39:420. Sakaguchi & Kuramoto 1986, Prog Theor Phys 76:576. Delays:
    Yeung & Strogatz 1999, PRL 82:648.
    """

    STATES = (
        State(
            "theta",
            0.0,
            "rad",
            "phase",
            span=(0.0, 2.0 * math.pi),
            draw=lambda key, shape: jax.random.uniform(key, shape, maxval=2.0 * math.pi),
        ),
    )
    PARAMETERS = (Parameter("omega", 0.2, (0.001, 2.0), "rad/time", "angular frequency"),)
    PORTS = (Port("phase_drive", "rad/time", "theta"),)
    OBSERVABLES: ClassVar = {
        "sin": Observable(lambda params, state: jnp.sin(state["theta"]), long_name="sine of the phase"),
        "cos": Observable(lambda params, state: jnp.cos(state["theta"]), long_name="cosine of the phase"),
    }
    BOLD: ClassVar = "sin"
    EEG: ClassVar = "cos"
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "synchronisation of phases"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        drive = params["omega"] + port(inputs, "phase_drive")
        # The phase itself does not enter, but its axes do.
        return {"theta": drive + jnp.zeros_like(state["theta"])}
