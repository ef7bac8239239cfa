"""EEG and MEG of regional activity: dipole moments, a lead field, a reference, and noise of the sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.declare import Arrays, Parameter

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import DataError
from brainloom.core.units import UnitError, parse
from brainloom.io.lead_field import LeadField, reference_matrix
from brainloom.observe.base import Filter

AMPERE_METER = u.ampere * u.meter
MOMENT = parse("nA*m")
DIMS = ("sensor", "region")
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
    >>> model(np.ones((1, 2)) * u.mV)
    [[10. 20. 20.]] * nV
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
        self._who = type(self).__name__
        if L is None:
            raise DataError(f"{self._who} got no lead field; give L")
        if isinstance(L, LeadField):
            if leadfield_unit is not None or dims is not None:
                raise DataError(f"{self._who} got a LeadField, which has its own leadfield_unit and dims")
            if len(set(L.units)) > 1:
                raise DataError(
                    f"{self._who}: lead field has sensors in {' and '.join(dict.fromkeys(L.units))}, and a signal has "
                    f"one unit; choose with LeadField.pick: {', '.join(dict.fromkeys(L.kinds))}"
                )
            sensors, regions = sensors or L.sensors, regions or L.regions
            L, leadfield_unit, dims = L.gain, L.units[0], DIMS
        self.L = L
        shape = jnp.shape(_mantissa(_present(L)))
        self.dims = self._checked_dims(shape, dims, in_size, out_size)
        n_sensors, n_regions = shape[:2] if self.dims == DIMS else shape[1::-1]
        self.in_size, self.out_size = n_regions, n_sensors
        self.free = len(shape) == 3
        self.leadfield_unit = self._checked_unit(leadfield_unit)
        self.sensor_unit = self._checked_sensor_unit(sensor_unit)
        self.sensors = self._names(sensors, n_sensors, "sensors")
        self.regions = self._names(regions, n_regions, "regions")
        if normalise not in NORMS:
            raise DataError(f"normalise of {self._who} is {normalise!r}; it must be 'l1', 'l2' or None")
        self.normalise = normalise
        self.reference = reference
        self._rereference = self._reference()
        self.orientation = orientation
        if orientation is not None:
            self._check_orientation()
        self.noise_sd = noise_sd
        self._noise_factor = None if noise_cov is None else self._factor(noise_cov)
        self._check_rows("bias", n_sensors), self._check_rows("dipole_gain", n_regions)
        if noise_sd is not None:
            self._check_rows("noise_sd", n_sensors)
            self._in_sensor_unit("noise_sd")
        self._in_sensor_unit("bias")

    # --- checks ------------------------------------------------------------------------------------------

    def _checked_dims(
        self, shape: tuple[int, ...], dims: Any, in_size: int | None, out_size: int | None
    ) -> tuple[str, ...]:
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
            raise DataError(
                f"L of {self._who} has the shape {shape}; it must be (sensor, region), or (sensor, region, 3)"
            )
        if dims is None and shape[0] == shape[1] and shape[0] > 1:
            raise DataError(
                f"L of {self._who} is square ({shape[0]} x {shape[1]}); say with dims=('sensor', 'region') or "
                "dims=('region', 'sensor') what its axes are"
            )
        dims = DIMS if dims is None else tuple(dims)
        if sorted(dims) != ["region", "sensor"]:
            raise DataError(
                f"dims of {self._who} is {dims}; it must be ('sensor', 'region') or ('region', 'sensor')"
            )
        wanted = {"sensor": out_size, "region": in_size}
        wrong = [name for name, n in zip(dims, shape, strict=False) if wanted[name] not in (None, n)]
        if wrong:
            swapped = (wanted[dims[1]], wanted[dims[0]]) == shape[:2]
            hint = f"give dims={dims[::-1]}" if swapped else "correct the sizes or L"
            raise DataError(
                f"L of {self._who} has the shape {shape} for dims={dims}, but there are in_size={in_size} regions "
                f"and out_size={out_size} sensors; {hint}"
            )
        return dims

    def _checked_unit(self, unit: Any) -> u.Unit:
        value = _present(self.L)
        if isinstance(value, u.Quantity):
            found = value.unit
        elif unit is None and not self.DEFAULT_UNIT:
            raise DataError(f"L of {self._who} has no unit; give leadfield_unit, such as 'V/(A*m)'")
        else:
            found = _as_unit(unit or self.DEFAULT_UNIT)
        allowed = [one for one in self.SENSOR_UNITS if (found * AMPERE_METER).dim == parse(one).dim]
        if not allowed:
            wanted = " or ".join(
                {"V": "V/(A*m)", "T": "T/(A*m)", "T/m": "T/(A*m^2)"}[s] for s in self.SENSOR_UNITS
            )
            raise UnitError(f"L of {self._who} is given in {found}, but it is needed in {wanted}")
        return found

    def _checked_sensor_unit(self, unit: Any) -> u.Unit:
        own = (self.leadfield_unit * AMPERE_METER).dim
        natural = next(one for one in self.SENSOR_UNITS if parse(one).dim == own)
        found = _as_unit(unit or natural)
        if found.dim != own:
            raise UnitError(
                f"sensor_unit of {self._who} is {found}, but L is in {self.leadfield_unit} and gives {natural}; "
                f"choose a unit that converts to {natural}"
            )
        return found

    def _names(self, names: Sequence[str] | None, n: int, what: str) -> tuple[str, ...] | None:
        if names is None:
            return None
        if len(names) != n:
            raise DataError(f"{what} of {self._who} are {len(names)} names for {n} {what}; give one each")
        return tuple(str(name) for name in names)

    def _reference(self) -> np.ndarray | None:
        if self.reference is None:
            return None
        if parse("V").dim != self.sensor_unit.dim:
            raise DataError(
                f"reference of {self._who} is {self.reference!r}, but magnetic sensors have no reference; leave it out"
            )
        if self.sensors is None and self.reference != "average":
            raise DataError(
                f"reference of {self._who} is {self.reference!r}, but its sensors have no names; give sensors"
            )
        names = self.sensors or tuple(str(at) for at in range(self.M))
        return reference_matrix(self.reference, names, ["eeg"] * self.M)

    def _check_orientation(self) -> None:
        value = _present(self.orientation)
        if not self.free:
            raise DataError(
                f"L of {self._who} has fixed orientations; give L as (sensor, region, 3) to choose them"
            )
        if jnp.shape(value) != (self.R, 3):
            raise DataError(
                f"orientation of {self._who} has the shape {jnp.shape(value)}; it must be ({self.R}, 3)"
            )
        if not isinstance(value, jax.core.Tracer):
            length = np.linalg.norm(np.asarray(value), axis=1)
            if not (np.isfinite(length) & (length > 0)).all():
                at = int(np.argmax(~(np.isfinite(length) & (length > 0))))
                name = self.regions[at] if self.regions else at
                raise DataError(
                    f"orientation of region {name} in {self._who} has no direction; give a vector"
                )

    def _check_rows(self, name: str, n: int) -> None:
        shape = jnp.shape(_mantissa(_present(getattr(self, name))))
        if shape not in ((), (1,), (n,)):
            raise DataError(f"{name} of {self._who} has the shape {shape}; it must be a number or ({n},)")

    def _factor(self, cov: Any) -> np.ndarray:
        """A matrix F with F F' = cov; an eigendecomposition, because a referenced covariance is singular."""
        cov = _converted(cov, self.sensor_unit**2, f"noise_cov of {self._who}")
        cov = np.asarray(cov, dtype=float)
        if cov.shape != (self.M, self.M):
            raise DataError(
                f"noise_cov of {self._who} has the shape {cov.shape}; it must be ({self.M}, {self.M})"
            )
        if not np.isfinite(cov).all() or np.abs(cov - cov.T).max() > 1e-6 * np.abs(cov).max():
            raise DataError(f"noise_cov of {self._who} is not finite and symmetric; give a covariance")
        values, vectors = np.linalg.eigh((cov + cov.T) / 2)
        if values[0] < -1e-6 * max(values[-1], 0.0):
            raise DataError(
                f"noise_cov of {self._who} has the negative eigenvalue {values[0]:.3g}; give a covariance"
            )
        return vectors * np.sqrt(np.maximum(values, 0.0))

    # --- values --------------------------------------------------------------------------------------------

    @property
    def M(self) -> int:
        """Number of sensors."""
        return self.out_size[-1]

    @property
    def R(self) -> int:
        """Number of regions."""
        return self.in_size[-1]

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
        given = _present(self.L)
        if not isinstance(given, u.Quantity):
            given = u.Quantity(given, unit=self.leadfield_unit)
        found = _floats(_converted(given, unit, f"L of {self._who}"))
        if self.dims != DIMS:
            found = jnp.swapaxes(found, 0, 1)
        if self.orientation is not None:
            towards = _floats(_present(self.orientation))
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
            found = jnp.einsum("st,t...->s...", _floats(self._rereference), found, precision="highest")
        return found

    def _gain(self, unit: Any) -> jax.Array:
        """Dipole moment in nA m for a plain 1 of the signal."""
        value = _present(self.dipole_gain)
        if isinstance(value, u.Quantity):
            what = f"dipole_gain of {self._who} for an observable in {unit}"
            return _floats(_converted(value, MOMENT / unit, what))
        if unit.dim == MOMENT.dim:
            return _floats(value) * float(u.Quantity(1.0, unit=unit).to_decimal(MOMENT))
        return _floats(value)

    def _in_sensor_unit(self, name: str) -> jax.Array:
        value = _present(getattr(self, name))
        return _floats(_converted(value, self.sensor_unit, f"{name} of {self._who}"))

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
            raise DataError(f"{self._who} has no noise; give noise_cov or noise_sd")
        value = _floats(_converted(signal, self.sensor_unit, f"signal of {self._who}"))
        if value.shape[-1:] != (self.M,):
            raise DataError(
                f"signal of {self._who} has the shape {value.shape}; its last axis must be {self.M} sensors"
            )
        common, own = jax.random.split(key)
        if self._noise_factor is not None:
            draws = jax.random.normal(common, value.shape, value.dtype)
            value = value + jnp.matmul(draws, _floats(self._noise_factor.T), precision="highest")
        if self.noise_sd is not None:
            value = value + self._in_sensor_unit("noise_sd") * jax.random.normal(
                own, value.shape, value.dtype
            )
        return value * self.sensor_unit

    def noise_covariance(self) -> Any:
        """Covariance of the noise of one sample, a Quantity (sensor, sensor)."""
        found = jnp.zeros((self.M, self.M))
        if self._noise_factor is not None:
            found = found + _floats(self._noise_factor @ self._noise_factor.T)
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
        unit = _as_unit(unit)
        matrix = self.matrix()
        if matrix.ndim == 3:
            raise DataError(
                f"covariance of {self._who} needs one moment a region; give orientation, or L with fixed ones"
            )
        scaled = matrix * jnp.broadcast_to(self._gain(unit), (self.R,))
        rest = u.get_unit(source) / unit**2 if isinstance(source, u.Quantity) else u.UNITLESS
        found = jnp.einsum("sr,...rq,tq->...st", scaled, _mantissa(source), scaled, precision="highest")
        return found * (self.sensor_unit**2 * rest)


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


def _present(value: Any) -> Any:
    return value.value() if isinstance(value, brainstate.nn.Param) else value


def _mantissa(value: Any) -> Any:
    return value.mantissa if isinstance(value, u.Quantity) else value


def _floats(value: Any) -> jax.Array:
    return jnp.asarray(value, jnp.result_type(float))


def _as_unit(unit: Any) -> u.Unit:
    return parse(unit) if isinstance(unit, str) else unit


def _converted(value: Any, unit: u.Unit, what: str) -> Any:
    """Plain number in a unit; plain ones are in it already."""
    if not isinstance(value, u.Quantity):
        return value
    if value.dim != unit.dim:
        raise UnitError(f"{what} is given in {value.unit}, but it is needed in {unit}")
    return value.to_decimal(unit)
