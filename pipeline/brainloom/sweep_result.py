"""What a sweep returns: a dataset with the parameters as coordinates, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import brainunit as u
import jax
import numpy as np

from brainloom.substitute import Place
from brainloom.trajectories import Trajectories, _flat, _plain

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_LOST = "#d9dee3"  # points without a value


@dataclass
class SweepResult:
    """
    Result of `brainloom.Sweep.run`.

    Attributes
    ----------
    data : xarray.Dataset
        One variable a result, with a dimension for each swept parameter (``mode="grid"``) or the dimension
        ``point`` (``mode="zip"``) first; the values of the parameters are coordinates with ``units``. ``diverged``
        marks points whose simulation diverged or whose results are not finite.
    parameters : tuple of str
        Names of the swept parameters.
    batch : int
        Points of one call of the compiled program.
    memory : int
        Bytes that this program takes: arguments, results and what lies between; 0 where that is not known.
    """

    data: xr.Dataset
    parameters: tuple[str, ...]
    batch: int
    memory: int

    def __getitem__(self, name: str) -> xr.DataArray:
        """A result, or the values of a parameter."""
        return self.data[name]

    def to_xarray(self) -> xr.Dataset:
        """The dataset."""
        return self.data

    def plot(
        self,
        name: str | None = None,
        *,
        reduce: Callable[..., Any] = np.mean,
        where: dict[str, float] | None = None,
        ax: Axes | None = None,
        **kw: Any,
    ) -> Axes:
        """
        A line over one parameter, a heat map over two; points that diverged stay grey.

        Parameters
        ----------
        name : str, optional
            The result; the only one if not given.
        reduce : callable
            ``reduce(values, axis)``: one number a point, over regions, time and what else there is; the mean by
            default.
        where : dict, optional
            Values of further parameters, of which the nearest points are taken.
        ax : matplotlib.axes.Axes, optional
        **kw : options of ``Axes.plot`` or ``Axes.pcolormesh``

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            An unknown result, or more than two parameters are left.
        """
        shown = self._chosen(name)
        lead = [dim for dim in shown.dims if dim in self.parameters or dim == "point"]
        rest = tuple(axis for axis, dim in enumerate(shown.dims) if dim not in lead)
        values = (
            np.asarray(reduce(np.asarray(shown.values, dtype=float), axis=rest)) if rest else shown.values
        )
        flat = shown.isel({dim: 0 for dim in shown.dims if dim not in lead}, drop=True).copy(data=values)
        flat = flat.where(~self.data["diverged"])
        for parameter, value in (where or {}).items():
            flat = flat.sel({parameter: value}, method="nearest")
        if flat.ndim not in (1, 2):
            left = ", ".join(str(dim) for dim in flat.dims) or "none"
            raise ValueError(
                f"a plot shows one or two parameters; left are {left}, so fix others with where="
            )
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(4.8, 3.6), layout="constrained")
        label = _labelled(str(shown.name), shown.attrs.get("units", "1"))
        if flat.ndim == 1:
            axis = self.parameters[0] if flat.dims[0] == "point" else str(flat.dims[0])
            line: dict[str, Any] = {"marker": "o", "markersize": 3.5, "color": "#0072B2"}
            at = self._along(axis, str(flat.dims[0]))
            ax.plot(at, flat.values, **(line | kw))
            ax.set(xlabel=self._named(axis), ylabel=label)
            ax.spines[["top", "right"]].set_visible(False)
            return ax
        down, across = (str(dim) for dim in flat.dims)
        ax.set_facecolor(_LOST)
        ranks = [self._along(dim, dim) for dim in (across, down)]
        orders = [np.argsort(rank) for rank in ranks]
        table = np.ma.masked_invalid(np.asarray(flat.values, dtype=float))[np.ix_(orders[1], orders[0])]
        image = ax.pcolormesh(
            ranks[0][orders[0]],
            ranks[1][orders[1]],
            table,
            **({"shading": "nearest", "cmap": "viridis"} | kw),
        )
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, aspect=25)
        bar.outline.set_visible(False)
        bar.set_label(label)
        ax.set(xlabel=self._named(across), ylabel=self._named(down))
        return ax

    def _chosen(self, name: str | None) -> xr.DataArray:
        known = [str(key) for key in self.data.data_vars if key != "diverged"]
        if name is None and len(known) == 1:
            name = known[0]
        if name not in self.data.data_vars:
            wanted = "name the result to plot" if name is None else f"there is no result {name!r}"
            raise ValueError(f"{wanted}; there is {', '.join(known)}")
        return self.data[name]

    def _along(self, name: str, dim: str) -> np.ndarray:
        """Values of a parameter along a dimension; their numbers where each is an array."""
        values = np.asarray(self.data[name].values, dtype=float)
        return values if values.ndim == 1 else np.arange(self.data.sizes[dim], dtype=float)

    def _named(self, name: str) -> str:
        return _labelled(name, self.data[name].attrs.get("units", "1"))


def sweep_dataset(
    found: Any, lost: np.ndarray, places: list[Place], mode: str, shape: tuple[int, ...], n_regions: Any
) -> Any:
    """Results of all points, the first axis, as a dataset over the values of the parameters."""
    import xarray as xr

    lead = tuple(one.name for one in places) if mode == "grid" else ("point",)
    coords: dict[str, Any] = {} if mode == "grid" else {"point": np.arange(shape[0])}
    for one in places:
        about = {"units": one.label, "long_name": f"swept {one.name}"}
        own = one.name if mode == "grid" else "point"
        if one.values.ndim == 1:
            coords[one.name] = (own, one.values, about)
            continue
        inner = _axes(one.name, one.values.shape[1:], n_regions)
        label = f"{one.name}_values" if mode == "grid" else one.name
        coords[label] = ((own, *inner), one.values, about)
        if mode == "grid":
            coords[one.name] = (
                own,
                np.arange(len(one.values)),
                {"units": "1", "long_name": f"number of {one.name}"},
            )
    data: dict[str, Any] = {}
    units, single = {}, xr.Dataset()
    if isinstance(found, Trajectories) and "ts" in found:
        units, single = found.units, jax.tree.map(lambda x: x[0], found).to_xarray()
        coords |= {name: single[name] for name in single.coords}
    for name, value in _flat(found):
        if units and (name == "ts" or name.endswith("_ts")):
            continue
        array = _plain(value, units.get(name, ""))
        known = name in single.data_vars
        inner = tuple(map(str, single[name].dims)) if known else _axes(name, array.shape[1:], n_regions)
        unit = units.get(name) or _unit(value)
        data[name] = ((*lead, *inner), array.reshape(*shape, *array.shape[1:]), {"units": unit})
    data["diverged"] = (lead, lost.reshape(shape), {"long_name": "diverged, or not finite"})
    return xr.Dataset(data, coords=coords, attrs={"kind": "sweep", "mode": mode})


def _unit(value: Any) -> str:
    return str(value.unit) if isinstance(value, u.Quantity) else "1"


def _axes(name: str, shape: tuple[int, ...], n_regions: Any) -> tuple[str, ...]:
    """Names of axes: the last are regions where their number fits."""
    n = 2 if shape[-2:] == (n_regions, n_regions) else int(shape[-1:] == (n_regions,))
    rest = tuple(f"{name}_{axis}" for axis in range(len(shape) - n))
    return (*rest, *("region", "region_to")[:n])


def _labelled(name: str, unit: str) -> str:
    return name if unit in ("", "1") else f"{name} ({unit})"
