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
    """

    def __init__(self, values: dict[str, Any] | None = None, units: dict[str, str] | None = None) -> None:
        super().__init__(values or {})
        self.units = dict(units or {})

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """Children by key, and what stays the same: names and units."""
        names = tuple(self)
        children = tuple((jax.tree_util.DictKey(name), self[name]) for name in names)
        return children, (names, tuple(sorted(self.units.items())))

    @classmethod
    def tree_unflatten(cls, kept: tuple, children: Sequence[Any]) -> Trajectories:
        """The inverse of `tree_flatten_with_keys`."""
        names, units = kept
        return cls(dict(zip(names, children, strict=True)), dict(units))

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
        n_regions = None
        for name, value in self.items():
            if name == "ts":
                continue
            array = _plain(value, self.units.get(name, ""))
            dims: tuple[str, ...] = tuple(f"{name}_{k}" for k in range(array.ndim))
            if array.ndim and array.shape[0] == len(times) and name != "diverged":
                dims = ("time", *dims[1:])
                if array.ndim in (2, 3):
                    dims = ("time", *(("realisation",) if array.ndim == 3 else ()), "region")
                    n_regions = array.shape[-1]
            elif name == "diverged" and array.ndim:
                dims = ("realisation",)
            data[name] = (dims, array, {"units": self.units.get(name, "1")})
        coords: dict[str, Any] = {"time": ("time", times, {"units": self.units.get("ts", "1")})}
        if n_regions is not None:
            labels = np.arange(n_regions) if regions is None else np.asarray(regions, dtype=object)
            coords["region"] = ("region", labels)
        return xr.Dataset(data, coords=coords)


def _plain(value: Any, unit: str) -> np.ndarray:
    if isinstance(value, u.Quantity):
        return np.asarray(value.to_decimal(u.parse_unit(unit)) if unit else value.mantissa)
    return np.asarray(value)
