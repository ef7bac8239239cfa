"""A lead field: what each sensor measures of a dipole of unit moment in each region."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainloom.core.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

# What a sensor measures, by its kind, for a dipole of 1 A m.
UNITS = {
    **dict.fromkeys(("eeg", "seeg", "ecog", "dbs"), "V/(A*m)"),
    "mag": "T/(A*m)",
    "grad": "T/(A*m^2)",
}
POTENTIALS = ("eeg", "seeg", "ecog", "dbs")


@dataclass(frozen=True, eq=False)
class LeadField:
    """
    A lead field of regions.

    Parameters
    ----------
    gain : (sensor, region) or (sensor, region, axis) array
        Measured value for 1 A m in each region, in the unit of the sensor (`units`). With a third axis the
        orientation is free: the last axis is the direction of the dipole, x, y, z of the head.
    sensors : sequence of str
    kinds : sequence of str
        ``eeg``, ``seeg``, ``ecog``, ``dbs``, ``mag`` or ``grad`` for each sensor.
    regions : sequence of str
    orientation : (region, 3) array, optional
        Unit vectors in head coordinates; not known, or free, if not given.
    reference : str, optional
        What potentials are relative to: ``average`` (of all electrodes here), the name of an electrode, or
        not given: infinity, or not known.
    sensor_positions, positions : (sensor, 3), (region, 3) arrays, optional
        Head coordinates, mm.
    n_sources : (region,) array of int, optional
        Sources of the forward model that a region is made of.

    Raises
    ------
    DataError
        Shapes, names or kinds do not fit, or a value is not finite.

    Examples
    --------
    >>> field = LeadField([[1.0, 2.0], [3.0, 6.0]], ["Cz", "Pz"], ["eeg", "eeg"], ["left", "right"])
    >>> field.referenced("average").gain
    array([[-1., -2.],
           [ 1.,  2.]])
    >>> field.units
    ('V/(A*m)', 'V/(A*m)')
    """

    gain: np.ndarray
    sensors: Sequence[str]
    kinds: Sequence[str]
    regions: Sequence[str]
    orientation: np.ndarray | None = None
    reference: str | None = None
    sensor_positions: np.ndarray | None = None
    positions: np.ndarray | None = None
    n_sources: np.ndarray | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("gain", np.array(self.gain, dtype=float))
        for name in ("sensors", "kinds", "regions"):
            put(name, tuple(str(one) for one in getattr(self, name)))
        for name in ("orientation", "sensor_positions", "positions"):
            if getattr(self, name) is not None:
                put(name, np.array(getattr(self, name), dtype=float))
        if self.n_sources is not None:
            put("n_sources", np.array(self.n_sources, dtype=np.int64))
        wanted = (len(self.sensors), len(self.regions))
        shape = self.gain.shape
        if shape not in (wanted, (*wanted, 3)):
            raise DataError(
                f"lead field has the shape {shape}, but there are {wanted[0]} sensors and {wanted[1]} regions; "
                "it must be (sensor, region), or (sensor, region, 3) for free orientation"
            )
        if not np.isfinite(self.gain).all():
            at = np.argwhere(~np.isfinite(self.gain))[0]
            raise DataError(
                f"lead field of sensor {self.sensors[at[0]]} and region {self.regions[at[1]]} is "
                f"{self.gain[tuple(at)]}; every value must be finite"
            )
        for what, names in (("sensor", self.sensors), ("region", self.regions)):
            twice = [name for name, n in Counter(names).items() if n > 1]
            if twice:
                raise DataError(f"lead field has the {what} {twice[0]!r} more than once; rename one")
        odd = sorted(set(self.kinds) - set(UNITS))
        if odd or len(self.kinds) != wanted[0]:
            found = f"the kind {odd[0]!r}" if odd else f"{len(self.kinds)} kinds for {wanted[0]} sensors"
            raise DataError(f"lead field has {found}; each sensor is one of {', '.join(UNITS)}")
        rows = {"orientation": wanted[1], "positions": wanted[1], "sensor_positions": wanted[0]}
        for name, n in rows.items():
            value = getattr(self, name)
            if value is not None and value.shape != (n, 3):
                raise DataError(f"{name} of the lead field has the shape {value.shape}; it must be ({n}, 3)")
        if self.n_sources is not None and self.n_sources.shape != wanted[1:]:
            raise DataError(
                f"n_sources of the lead field has the shape {self.n_sources.shape}; it must be {wanted[1:]}"
            )

    # --- what it is ------------------------------------------------------------------------------------

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of the gain of each sensor."""
        return tuple(UNITS[kind] for kind in self.kinds)

    @property
    def free(self) -> bool:
        """Whether the orientation of the dipoles is free: the gain has a third axis."""
        return self.gain.ndim == 3

    # --- others made of it -------------------------------------------------------------------------------

    def fixed(self, orientation: Any) -> LeadField:
        """
        With one orientation a region.

        Parameters
        ----------
        orientation : (region, 3) array, or "strongest"
            Directions in head coordinates, scaled to length 1. ``"strongest"`` takes the direction that all
            sensors together measure best, each kind of sensor counting alike; its largest component is positive.

        Raises
        ------
        DataError
            The orientation is fixed already, or a direction is no vector.
        """
        if not self.free:
            raise DataError(
                "lead field has fixed orientations already; build it with free ones to choose others"
            )
        if isinstance(orientation, str):
            if orientation != "strongest":
                raise DataError(
                    f"orientation is {orientation!r}; it must be 'strongest' or an array (region, 3)"
                )
            orientation = strongest_directions(self.gain, self.kinds)
        directions = unit_vectors(orientation, self.regions)
        gain = np.einsum("srk,rk->sr", self.gain, directions)
        return dataclasses.replace(self, gain=gain, orientation=directions)

    def referenced(self, reference: str | None) -> LeadField:
        """
        With potentials relative to another reference; magnetic sensors stay as they are.

        Parameters
        ----------
        reference : str or None
            ``average``, the name of an electrode, or None: as it is.

        Raises
        ------
        DataError
            No such electrode.
        """
        if reference is None:
            return self
        matrix = reference_matrix(reference, self.sensors, self.kinds)
        gain = np.einsum("st,t...->s...", matrix, self.gain)
        return dataclasses.replace(self, gain=gain, reference=reference)

    def pick(
        self, sensors: str | Iterable[str] | None = None, regions: Iterable[str] | None = None
    ) -> LeadField:
        """
        Some sensors and regions, in the order that is asked for.

        Parameters
        ----------
        sensors : str or sequence of str, optional
            A kind (``eeg``, ``mag``, ...), or names.
        regions : sequence of str, optional
            Names.

        Notes
        -----
        Potentials keep their reference: the average of all electrodes is not that of some of them, so `reference`
        becomes ``average of <n>`` until `referenced` is called.

        Raises
        ------
        DataError
            There is no such sensor or region; the sentence names them.
        """
        if isinstance(sensors, str):
            chosen = [name for name, kind in zip(self.sensors, self.kinds, strict=True) if kind == sensors]
            if not chosen:
                has = ", ".join(dict.fromkeys(self.kinds))
                raise DataError(f"lead field has no sensor of the kind {sensors!r}; it has {has}")
            sensors = chosen
        rows = positions_of(self.sensors if sensors is None else sensors, self.sensors, "sensor")
        columns = positions_of(self.regions if regions is None else regions, self.regions, "region")
        n_before, n_after = (
            sum(self.kinds[at] in POTENTIALS for at in some) for some in (range(len(self.kinds)), rows)
        )
        reference = self.reference
        if reference == "average" and n_after < n_before:
            reference = f"average of {n_before}"

        def at(value: np.ndarray | None, which: list[int]) -> np.ndarray | None:
            return None if value is None else value[which]

        return LeadField(
            self.gain[rows][:, columns],
            [self.sensors[i] for i in rows],
            [self.kinds[i] for i in rows],
            [self.regions[i] for i in columns],
            at(self.orientation, columns),
            reference,
            at(self.sensor_positions, rows),
            at(self.positions, columns),
            at(self.n_sources, columns),
        )

    # --- datasets ----------------------------------------------------------------------------------------

    def to_xarray(self) -> xr.Dataset:
        """
        As a dataset that `brainloom.store` writes.

        Returns
        -------
        xarray.Dataset
            ``lead_field(sensor, region[, axis])``; coordinates ``sensor``, ``sensor_kind``, ``sensor_unit``,
            ``region``; ``orientation``, ``position``, ``sensor_position``, ``n_sources`` where known.
        """
        import xarray as xr

        dims = ("sensor", "region", "axis")
        made: dict[str, Any] = {
            "lead_field": (dims[: self.gain.ndim], self.gain, {"long_name": "lead field, in sensor_unit"})
        }
        optional = {
            "orientation": (("region", "axis"), self.orientation, {"long_name": "direction of the dipole"}),
            "position": (
                ("region", "axis"),
                self.positions,
                {"long_name": "position in the head", "units": "mm"},
            ),
            "sensor_position": (
                ("sensor", "axis"),
                self.sensor_positions,
                {"long_name": "position in the head", "units": "mm"},
            ),
            "n_sources": (("region",), self.n_sources, {"long_name": "sources of the forward model"}),
        }
        made |= {name: entry for name, entry in optional.items() if entry[1] is not None}
        coords: dict[str, Any] = {
            "sensor": list(self.sensors),
            "region": list(self.regions),
            "sensor_kind": ("sensor", list(self.kinds)),
            "sensor_unit": ("sensor", list(self.units)),
        }
        if any("axis" in entry[0] for entry in made.values()):
            coords["axis"] = ["x", "y", "z"]
        return xr.Dataset(made, coords, {"kind": "lead_field", "reference": self.reference or ""})

    @classmethod
    def from_xarray(cls, ds: xr.Dataset) -> LeadField:
        """
        Back from `to_xarray`.

        Raises
        ------
        DataError
            The dataset holds no lead field.
        """
        missing = [name for name in ("lead_field", "sensor", "sensor_kind", "region") if name not in ds]
        if missing:
            raise DataError(
                f"dataset has no variable {missing[0]}; it must be one that LeadField.to_xarray made"
            )

        def values(name: str) -> np.ndarray | None:
            return ds[name].values if name in ds else None

        return cls(
            ds["lead_field"].values,
            ds["sensor"].values.tolist(),
            ds["sensor_kind"].values.tolist(),
            ds["region"].values.tolist(),
            values("orientation"),
            ds.attrs.get("reference") or None,
            values("sensor_position"),
            values("position"),
            values("n_sources"),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write to one ``.zarr.zip`` file; see `brainloom.store.write_dataset`."""
        from brainloom.store import write_dataset

        write_dataset(path, self.to_xarray())

    @classmethod
    def load(cls, path: str | os.PathLike) -> LeadField:
        """Read what `save` has written, verified."""
        from brainloom.store import read_dataset

        return cls.from_xarray(read_dataset(path))


def reference_matrix(reference: str, sensors: Sequence[str], kinds: Sequence[str]) -> np.ndarray:
    """
    What turns potentials into potentials relative to a reference.

    Parameters
    ----------
    reference : str
        ``average`` or the name of an electrode.
    sensors, kinds : sequences of str

    Returns
    -------
    (sensor, sensor) array
        The identity for magnetic sensors.

    Raises
    ------
    DataError
        There is no such electrode.
    """
    electrodes = [at for at, kind in enumerate(kinds) if kind in POTENTIALS]
    matrix = np.eye(len(sensors))
    if reference == "average" and electrodes:
        matrix[np.ix_(electrodes, electrodes)] -= 1.0 / len(electrodes)
        return matrix
    named = [at for at in electrodes if sensors[at] == reference]
    if not named:
        has = ", ".join(sensors[at] for at in electrodes[:8]) + (", ..." if len(electrodes) > 8 else "")
        raise DataError(
            f"reference is {reference!r}; it must be 'average' or one of the electrodes ({has or 'there are none'})"
        )
    matrix[electrodes, named[0]] -= 1.0
    return matrix


def unit_vectors(directions: Any, regions: Sequence[str]) -> np.ndarray:
    """
    Directions scaled to length 1.

    Raises
    ------
    DataError
        The shape is not (region, 3), or a direction has no length; the sentence names the region.
    """
    directions = np.asarray(directions, dtype=float)
    if directions.shape != (len(regions), 3):
        raise DataError(f"orientation has the shape {directions.shape}; it must be ({len(regions)}, 3)")
    length = np.linalg.norm(directions, axis=1)
    odd = ~(np.isfinite(length) & (length > 0))
    if odd.any():
        at = int(np.argmax(odd))
        raise DataError(
            f"orientation of region {regions[at]} is {directions[at].tolist()}; it must have a direction"
        )
    return directions / length[:, None]


def strongest_directions(gain: np.ndarray, kinds: Sequence[str]) -> np.ndarray:
    """The direction in each region that the sensors measure best, (region, 3), largest component positive."""
    scaled = gain.copy()
    for kind in set(kinds):
        rows = [at for at, one in enumerate(kinds) if one == kind]
        scaled[rows] /= max(np.linalg.norm(gain[rows]), np.finfo(float).tiny)
    directions = np.stack([np.linalg.svd(scaled[:, r])[2][0] for r in range(gain.shape[1])])
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    return directions * np.sign(largest)


def positions_of(wanted: Iterable[str], names: Sequence[str], what: str) -> list[int]:
    """Where names stand; those that are missing are named in the DataError."""
    place = {name: at for at, name in enumerate(names)}
    wanted = [str(name) for name in wanted]
    missing = [name for name in wanted if name not in place]
    if missing:
        has = ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
        raise DataError(f"lead field has no {what} {', '.join(missing[:5])}; it has {has}")
    return [place[name] for name in wanted]
