"""What a run returns: a dict of arrays with units that is a pytree, and its form as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import brainunit as u
import jax
import numpy as np

if TYPE_CHECKING:
    import xarray as xr


@jax.tree_util.register_pytree_with_keys_class
class Trajectories(dict):
    """
    Results of a run by name; a dict that passes through ``jit``, ``grad`` and ``vmap``.

    Parameters
    ----------
    values : dict
        Arrays or quantities, time first; ``ts`` are the times.
    units : dict of str to str, optional
        Units as they are written into datasets; dimensionless ones may be left out.
    dims : dict of str to tuple, optional
        Names of the axes, where they are known.
    """

    def __init__(
        self,
        values: dict[str, Any] | None = None,
        units: dict[str, str] | None = None,
        dims: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__(values or {})
        self.units = dict(units or {})
        self.dims = dict(dims or {})

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """Children by key, and what stays the same: names and units."""
        names = tuple(self)
        children = tuple((jax.tree_util.DictKey(name), self[name]) for name in names)
        return children, (names, tuple(sorted(self.units.items())), tuple(sorted(self.dims.items())))

    @classmethod
    def tree_unflatten(cls, kept: tuple, children: Sequence[Any]) -> Trajectories:
        """The inverse of `tree_flatten_with_keys`."""
        names, units, dims = kept
        return cls(dict(zip(names, children, strict=True)), dict(units), dict(dims))

    def to_xarray(self, *, regions: Sequence[str] | None = None) -> xr.Dataset:
        """
        The results as a dataset.

        Parameters
        ----------
        regions : sequence of str, optional
            Labels of the regions; numbers from 0 if not given.

        Returns
        -------
        xarray.Dataset
            Variables (time, [realisation,] region) with ``units``; ``time`` holds the times. What has no time axis
            keeps its own dimensions.
        """
        import xarray as xr

        times = _plain(self["ts"], self.units.get("ts", ""))
        data: dict[str, Any] = {}
        coords: dict[str, Any] = {"time": ("time", times, {"units": self.units.get("ts", "1")})}
        for name, value in _flat(self):
            if name == "ts":
                continue
            array = _plain(value, self.units.get(name, ""))
            if name.endswith("_ts"):  # times of a result that is sampled at its own interval
                axis = f"{name.removesuffix('_ts')}_time"
                coords[axis] = (axis, array, {"units": self.units[name]})
                continue
            dims = self.dims.get(name, ()) if len(self.dims.get(name, ())) == array.ndim else ()
            data[name] = (
                dims or self._guess(name, array, len(times)),
                array,
                {"units": self._unit(name, value)},
            )
            for axis in ("region", "region_to"):
                if axis in data[name][0]:
                    n = array.shape[data[name][0].index(axis)]
                    coords[axis] = (
                        axis,
                        np.arange(n) if regions is None else np.asarray(regions, dtype=object),
                    )
        return xr.Dataset(data, coords=coords)

    def _unit(self, name: str, value: Any) -> str:
        return self.units.get(name) or (str(value.unit) if isinstance(value, u.Quantity) else "1")

    def _guess(self, name: str, array: np.ndarray, n_times: int) -> tuple[str, ...]:
        """Axes of what a function of the model has returned."""
        if name == "diverged":
            return ("realisation",)[: array.ndim]
        rest = tuple(f"{name}_{k}" for k in range(1, array.ndim))
        return (
            ("time", *rest)
            if array.ndim and array.shape[0] == n_times
            else (f"{name}_0", *rest)[: array.ndim]
        )


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Entries of nested results under joined names."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name}_") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return found


def _plain(value: Any, unit: str) -> np.ndarray:
    if isinstance(value, u.Quantity):
        return np.asarray(value.to_decimal(u.parse_unit(unit)) if unit else value.mantissa)
    return np.asarray(value)
