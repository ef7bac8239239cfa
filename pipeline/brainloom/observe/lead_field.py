"""EEG and MEG of regional activity: dipole moments, a lead field, a reference, and noise of the sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.declare import Arrays, Parameter

# isort: split
import brainunit as u
import jax.numpy as jnp

from brainloom.core.errors import DataError
from brainloom.core.units import parse
from brainloom.io.lead_field import LeadField
from brainloom.observe import lead_field_checks as checks
from brainloom.observe.base import Filter
from brainloom.observe.lead_field_checks import DIMS, as_unit, converted, floats, mantissa, present

MOMENT = parse("nA*m")
NORMS = (None, "l1", "l2")


class LeadFieldModel(Filter):
    r"""
    Signals of sensors from the activity of regions.

    .. math:: y = L \, (g \, x) + b + \varepsilon

    with the observable x, the dipole moment g x (g is `dipole_gain`), the lead field L, an offset b and noise.
    It is a spatial filter: ``observer >> LeadFieldModel(...)`` keeps the signals of the sensors only, and
    called on an array (time, ..., region) it returns (time, ..., sensor).

    Parameters
    ----------
    in_size, out_size : int, optional
        Number of regions and of sensors; those of `L` if not given.
    L : LeadField, array, Quantity, or brainstate.nn.Param
        See `dims`. With a last axis of 3 the orientation is free. ``Param(..., fit=True)`` makes a trainable read-out.
    leadfield_unit : str or Unit, optional
        Unit of a plain `L`.
    dims : ("sensor", "region") or ("region", "sensor"), optional
        What the axes of an array are; sensors first by default, but a square array must say it.
    dipole_gain : number, (region,) array, Quantity or Param
        Dipole moment for one unit of the observable; plain numbers in nA m for each unit that the observable comes
        in. Observables that are moments already (A m) are multiplied by it.
    bias : number, (sensor,) array, Quantity or Param
        Added to the signals; plain numbers in `sensor_unit`.
    orientation : (region, 3) array or Param, optional
        Directions of the dipoles for a free `L`, scaled to length 1 here. Without it x are components of moments,
        (..., region, 3), in the axes of `L`.
    reference : str, optional
        ``average``, or the name of an electrode (`sensors` gives names): what potentials are relative to. As `L` is
        if not given.
    sensor_unit : str or Unit, optional
        Unit of the result; V, T or T/m by default. Microvolts or femtotesla keep numbers near 1.
    noise_cov : (sensor, sensor) array or Quantity, optional
        Covariance of the noise of one sample, of the signals as they come out; plain numbers in the square of
        `sensor_unit`. It may be singular.
    noise_sd : number, (sensor,) array, Quantity or Param, optional
        Standard deviation of noise that is independent between sensors, in addition.
    normalise : {"l1", "l2"}, optional
        Scale each row of L, before it is referenced, to the norm 1 (`sensor_unit` per nA m). The scale is then that
        of `dipole_gain`.
    sensors, regions : sequence of str, optional
        Names; those of a `LeadField`.

    Notes
    -----
    Noise is drawn where a key is given and nowhere else: ``model(x, key=key)`` or `add_noise`. Each sample
    of the result gets its own.

    In single precision 1e-15 T is a number like others, but its square is close to the smallest there is: choose
    ``sensor_unit="fT"`` (or ``"uV"``) before powers or covariances are computed.

    Raises
    ------
    DataError
        Shapes or names do not fit, or a covariance is none.
    UnitError
        A unit does not fit; the sentence names both.

    Examples
    --------
    >>> import brainunit as u
    >>> import numpy as np
    >>> L = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]) * u.volt / (u.ampere * u.meter)
    >>> model = EEGLeadFieldModel(2, 3, L, dipole_gain=10 * u.nA * u.meter / u.mV, sensor_unit="nV")
    >>> print(model(np.ones((1, 2)) * u.mV))
    [[10. 20. 20.]] nV
    """

    SPATIAL: ClassVar[bool] = True
    DIMS: ClassVar[tuple[str, ...]] = ("sensor",)
    STATIC: ClassVar[tuple[str, ...]] = ("sensor_unit",)
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("dipole_gain", 1.0, (0.0, 1e3), "nA*m", "dipole moment for one unit of the observable"),
        Parameter("bias", 0.0, (-1.0, 1.0), "1", "offset of the signals, in their unit"),
    )
    # Units that sensors may have; the first one's is that of a plain lead field.
    SENSOR_UNITS: ClassVar[tuple[str, ...]] = ("V", "T", "T/m")
    DEFAULT_UNIT: ClassVar[str] = ""
    dipole_gain: Any
    bias: Any

    def __init__(
        self,
        in_size: int | None = None,
        out_size: int | None = None,
        L: Any = None,
        *,
        leadfield_unit: Any = None,
        dims: Sequence[str] | None = None,
        dipole_gain: Any = 1.0,
        bias: Any = 0.0,
        orientation: Any = None,
        reference: str | None = None,
        sensor_unit: Any = None,
        noise_cov: Any = None,
        noise_sd: Any = None,
        normalise: str | None = None,
        sensors: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
    ) -> None:
        super().__init__(dipole_gain=dipole_gain, bias=bias)
        who = type(self).__name__
        if L is None:
            raise DataError(f"{who} got no lead field; give L")
        if isinstance(L, LeadField):
            if leadfield_unit is not None or dims is not None:
                raise DataError(f"{who} got a LeadField, which has its own leadfield_unit and dims")
            leadfield_unit, dims = checks.common_unit(L, who), DIMS
            sensors, regions, L = sensors or L.sensors, regions or L.regions, L.gain
        self.L = L
        shape = jnp.shape(mantissa(present(L)))
        self.dims = checks.checked_dims(shape, dims, in_size, out_size, who)
        n_sensors, n_regions = shape[:2] if self.dims == DIMS else shape[1::-1]
        self.in_size, self.out_size = n_regions, n_sensors
        self.leadfield_unit = checks.leadfield_unit(
            L, leadfield_unit or self.DEFAULT_UNIT, self.SENSOR_UNITS, who
        )
        self.sensor_unit = checks.sensor_unit(sensor_unit, self.leadfield_unit, self.SENSOR_UNITS, who)
        self.sensors = checks.names(sensors, n_sensors, "sensors", who)
        self.regions = checks.names(regions, n_regions, "regions", who)
        if normalise not in NORMS:
            raise DataError(f"normalise of {who} is {normalise!r}; it must be 'l1', 'l2' or None")
        self.normalise, self.reference = normalise, reference
        self._rereference = (
            None
            if reference is None
            else checks.reference_of(reference, self.sensors, n_sensors, self.sensor_unit, who)
        )
        self.orientation = orientation
        if orientation is not None:
            checks.check_orientation(orientation, shape, n_regions, self.regions, who)
        self._noise_factor = (
            None
            if noise_cov is None
            else checks.covariance_factor(noise_cov, n_sensors, self.sensor_unit, f"noise_cov of {who}")
        )
        self.noise_sd = noise_sd
        for name, n in (("dipole_gain", n_regions), ("bias", n_sensors), ("noise_sd", n_sensors)):
            checks.check_length(getattr(self, name), n, f"{name} of {who}")
        if noise_sd is not None:
            self._in_sensor_unit("noise_sd")
        self._in_sensor_unit("bias")

    # --- values --------------------------------------------------------------------------------------------

    @property
    def M(self) -> int:
        """Number of sensors."""
        return checks.last(self.out_size)

    @property
    def R(self) -> int:
        """Number of regions."""
        return checks.last(self.in_size)

    def values(self, unit: Any, time_unit: str) -> Arrays:
        """See `Filter.values`: the lead field as it acts, gain and bias."""
        bias = self._in_sensor_unit("bias")
        return {"L": self.matrix(), "dipole_gain": self._gain(unit), "bias": bias}

    def out_unit(self, unit: Any) -> Any:
        """See `Filter.out_unit`."""
        return self.sensor_unit

    def matrix(self) -> jax.Array:
        """
        The lead field as it acts: oriented, normalised, referenced.

        Returns
        -------
        (sensor, region) or (sensor, region, 3) array
            In `sensor_unit` per nA m.
        """
        unit = self.sensor_unit / MOMENT
        given = present(self.L)
        if not isinstance(given, u.Quantity):
            given = u.Quantity(given, unit=self.leadfield_unit)
        found = floats(converted(given, unit, f"L of {type(self).__name__}"))
        if self.dims != DIMS:
            found = jnp.swapaxes(found, 0, 1)
        if self.orientation is not None:
            towards = floats(present(self.orientation))
            towards = towards / jnp.linalg.norm(towards, axis=-1, keepdims=True)
            found = jnp.einsum("srk,rk->sr", found, towards, precision="highest")
        if self.normalise is not None:
            axes = tuple(range(1, found.ndim))
            # divided first by its largest value, so that squares of small numbers stay numbers
            largest = jax.lax.stop_gradient(jnp.abs(found).max(axes, keepdims=True))
            found = found / jnp.where(largest > 0, largest, 1.0)
            if self.normalise == "l1":
                norm = jnp.abs(found).sum(axes, keepdims=True)
            else:
                square = (found**2).sum(axes, keepdims=True)
                norm = jnp.sqrt(jnp.where(square > 0, square, 1.0))
            found = found / jnp.where(norm > 0, norm, 1.0)
        if self._rereference is not None:
            found = jnp.einsum("st,t...->s...", floats(self._rereference), found, precision="highest")
        return found

    def _gain(self, unit: Any) -> jax.Array:
        """Dipole moment in nA m for a plain 1 of the signal."""
        value = present(self.dipole_gain)
        if isinstance(value, u.Quantity):
            what = f"dipole_gain of {type(self).__name__} for an observable in {unit}"
            return floats(converted(value, MOMENT / unit, what))
        if unit.dim == MOMENT.dim:
            return floats(value) * float(u.Quantity(1.0, unit=unit).to_decimal(MOMENT))
        return floats(value)

    def _in_sensor_unit(self, name: str) -> jax.Array:
        value = present(getattr(self, name))
        return floats(converted(value, self.sensor_unit, f"{name} of {type(self).__name__}"))

    # --- signals -------------------------------------------------------------------------------------------

    def at(self, p: Arrays, value: jax.Array) -> jax.Array:
        """See `Filter.at`; (..., region), or (..., region, 3) for a free lead field."""
        matrix = p["L"]
        wanted = matrix.shape[1:]
        if value.shape[-len(wanted) :] != wanted:
            axes = "region, 3" if len(wanted) == 2 else "region"
            hint = ", or give orientation" if len(wanted) == 2 else ""
            raise DataError(
                f"signal of {type(self).__name__} has the shape {value.shape}; it must end with "
                f"({axes}) = {wanted}{hint}"
            )
        gain = jnp.broadcast_to(p["dipole_gain"], wanted[:1])
        if len(wanted) == 2:
            found = jnp.einsum("...rk,srk->...s", value * gain[:, None], matrix, precision="highest")
        else:
            found = jnp.einsum("...r,sr->...s", value * gain, matrix, precision="highest")
        return found + p["bias"]

    def update(self, signal: Any, dt: Any = None, *, key: jax.Array | None = None) -> Any:
        """
        Signals of the sensors.

        Parameters
        ----------
        signal : array or Quantity, (time, ..., region), or (time, ..., region, 3) for a free lead field
        dt : optional
            Not needed.
        key : jax.random key, optional
            Add noise; without it the result is free of noise.

        Returns
        -------
        Quantity, (time, ..., sensor), in `sensor_unit`
        """
        found = super().update(signal, dt)
        return found if key is None else self.add_noise(found, key)

    def add_noise(self, signal: Any, key: jax.Array) -> Any:
        """
        Add noise of the sensors, another one to each sample.

        Parameters
        ----------
        signal : Quantity or array in `sensor_unit`, (..., sensor)
        key : jax.random key

        Raises
        ------
        DataError
            Neither `noise_cov` nor `noise_sd` was given, or the number of sensors differs.
        """
        if self._noise_factor is None and self.noise_sd is None:
            raise DataError(f"{type(self).__name__} has no noise; give noise_cov or noise_sd")
        value = floats(converted(signal, self.sensor_unit, f"signal of {type(self).__name__}"))
        if value.shape[-1:] != (self.M,):
            raise DataError(
                f"signal of {type(self).__name__} has the shape {value.shape}; its last axis must be {self.M} sensors"
            )
        common, own = jax.random.split(key)
        if self._noise_factor is not None:
            draws = jax.random.normal(common, value.shape, value.dtype)
            value = value + jnp.matmul(draws, floats(self._noise_factor.T), precision="highest")
        if self.noise_sd is not None:
            value = value + self._in_sensor_unit("noise_sd") * jax.random.normal(
                own, value.shape, value.dtype
            )
        return value * self.sensor_unit

    def noise_covariance(self) -> Any:
        """Covariance of the noise of one sample, a Quantity (sensor, sensor)."""
        found = jnp.zeros((self.M, self.M))
        if self._noise_factor is not None:
            found = found + floats(self._noise_factor @ self._noise_factor.T)
        if self.noise_sd is not None:
            found = found + jnp.diag(jnp.broadcast_to(self._in_sensor_unit("noise_sd"), (self.M,)) ** 2)
        return found * self.sensor_unit**2

    def covariance(self, source: Any, unit: Any = u.UNITLESS) -> Any:
        """
        Covariance, or cross-spectra, of the sensors from that of the regions; without noise.

        Parameters
        ----------
        source : (..., region, region) array or Quantity, real or complex
            Of the observable (fixed orientation).
        unit : str or Unit
            Unit of the observable; `source` is in its square, or in its square over a frequency.

        Returns
        -------
        Quantity, (..., sensor, sensor)
            In the square of `sensor_unit`, over the same frequency unit.
        """
        unit = as_unit(unit)
        matrix = self.matrix()
        if matrix.ndim == 3:
            raise DataError(
                f"covariance of {type(self).__name__} needs one moment a region; give orientation, or L with fixed ones"
            )
        scaled = matrix * jnp.broadcast_to(self._gain(unit), (self.R,))
        out = self.sensor_unit**2
        if isinstance(source, u.Quantity):
            over = u.UNITLESS if source.dim == (unit**2).dim else parse("Hz")
            source, out = (
                converted(source, unit**2 / over, f"source covariance of {type(self).__name__}"),
                out / over,
            )
        found = jnp.einsum("sr,...rq,tq->...st", scaled, jnp.asarray(source), scaled, precision="highest")
        return found * out


class EEGLeadFieldModel(LeadFieldModel):
    """
    EEG, or intracranial EEG, of regional activity; see `LeadFieldModel`.

    The lead field is in V/(A m), also when it is a plain array, and the result in V.
    """

    SENSOR_UNITS: ClassVar[tuple[str, ...]] = ("V",)
    DEFAULT_UNIT: ClassVar[str] = "V/(A*m)"


class MEGLeadFieldModel(LeadFieldModel):
    """
    MEG of regional activity; see `LeadFieldModel`.

    Magnetometers: a lead field in T/(A m), also when it is a plain array, and a result in T. Planar gradiometers:
    T/(A m^2) and T/m. One model has one kind of sensor.
    """

    SENSOR_UNITS: ClassVar[tuple[str, ...]] = ("T", "T/m")
    DEFAULT_UNIT: ClassVar[str] = "T/(A*m)"
