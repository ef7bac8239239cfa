"""The contract of a noise process: pure functions of its parameters, its state and unit-variance increments."""

from __future__ import annotations

from typing import Any, ClassVar

import jax

from brainloom.core.units import plain

Arrays = dict[str, jax.Array]


class NoiseProcess:
    """
    Base of all noise processes.

    A process is attached to a state or a port of a model (``noise_<state>=``, ``noise_<port>=``). A *white*
    one (`WHITE`) adds increments to a state and defines `kick`. Every other one is a signal in time, held over
    a step and added to the derivative of a state or to a port; it defines `start` and `advance`.

    Subclasses declare `PARAMETERS` (name to unit; ``[unit]`` stands for the unit of what the signal is added
    to, for white noise that of the state) and set them as attributes of the instance.

    Parameters
    ----------
    in_size : int, optional
        Number of regions; the model that the process is attached to decides if it is not given.
    """

    PARAMETERS: ClassVar[dict[str, str]] = {}
    WHITE: ClassVar[bool] = False

    def __init__(self, in_size: int | None = None) -> None:
        self.in_size = in_size

    def structure(self) -> tuple:
        """The class, then everything else that a compiled program depends on; hashable."""
        return (type(self),)

    def parameter_values(self, unit: str, time_unit: str, owner: str) -> Arrays:
        """
        Parameters as plain arrays.

        Parameters
        ----------
        unit : str
            Unit of the state (white noise), of state/time (signals added to a derivative) or of the port.
        time_unit : {"ms", "s"}
        owner : str
            What the noise is attached to, for messages.
        """
        found = {}
        for name, declared in self.PARAMETERS.items():
            value: Any = getattr(self, name)
            if hasattr(value, "reg_loss"):  # a brainstate Param: its constrained value
                value = value.value()
            if value is not None:
                wanted = declared.replace("[unit]", unit)
                found[name] = plain(value, wanted, f"{name} of the noise of {owner}", time_unit)
        return found

    @classmethod
    def kick(
        cls, structure: tuple, params: Arrays, state: jax.Array, increment: jax.Array, dt: Any
    ) -> jax.Array:
        """
        Increment of a noisy state over one step (white noise only).

        Parameters
        ----------
        structure : tuple
        params : dict of arrays
        state : (..., region) array
            The state variable that the noise is added to, at the stage of the integrator.
        increment : (..., region) array
            Unit-variance draws.
        dt : scalar

        Returns
        -------
        (..., region) array: ``g(state) sqrt(dt) increment``
        """
        raise TypeError(f"{cls.__name__} is not white noise; it has a value in time")

    @classmethod
    def start(cls, structure: tuple, params: Arrays, normal: jax.Array) -> Arrays:
        """
        State of a signal at the start, from its stationary distribution.

        Parameters
        ----------
        structure : tuple
        params : dict of arrays
        normal : (n_start, ..., region) array
            Unit normal draws, see `n_start`; zeros if there is no key.

        Returns
        -------
        dict of (..., region) arrays; ``value`` is the signal, other entries are the process' own.
        """
        raise TypeError(f"{cls.__name__} does not say how it starts; define start()")

    @classmethod
    def n_start(cls, structure: tuple) -> int:
        """How many draws a region needs at the start."""
        return 1

    @classmethod
    def advance(
        cls, structure: tuple, params: Arrays, state: Arrays, increment: jax.Array, dt: Any
    ) -> Arrays:
        """
        The state of a signal one step later, exact for any dt where the process allows.

        Parameters
        ----------
        structure : tuple
        params, state : dict of arrays
        increment : (..., region) array
            Unit-variance draws of this step.
        dt : scalar
        """
        raise TypeError(f"{cls.__name__} does not say how it advances; define advance()")
