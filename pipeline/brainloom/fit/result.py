"""The result of a fit: parameters with units, history, how it ended; saved and loaded, or as a dataset."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainloom.core.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr

_FORMAT = "brainloom fit 1"


@dataclass
class FitResult:
    """
    Result of `brainloom.Fitter.fit`.

    Attributes
    ----------
    best_params : dict
        Dotted name to value in the space of the model, with its unit, at the lowest loss that was seen.
    best_loss : float
    history : (evaluation,) array
        Loss of every evaluation, the first at the start; not finite where the model failed.
    n_steps : int
        Steps (``"grad"``) or iterations (``"scipy"``).
    backend : str
    converged : bool
        ``"grad"``: the last ten losses lie within a hundredth of what was gained; ``"scipy"``: what it says.
    seeds : list of list of int
        Words of the random key of each start; empty if nothing was drawn.
    n_skipped : int
        Evaluations that were not finite; none of them is the result.
    message : str
        How the fit ended.
    dims : dict
        Names of the axes of each parameter.
    prediction : Any
        Prediction, or second output of the loss function, at the best point. Not saved.
    model : Any
        The model, with the best parameters set. Not saved.
    wall_time : float
        Seconds. Not saved, as it differs from run to run.
    """

    best_params: dict[str, Any]
    best_loss: float
    history: np.ndarray
    n_steps: int
    backend: str
    converged: bool
    seeds: list[list[int]] = field(default_factory=list)
    n_skipped: int = 0
    message: str = ""
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    prediction: Any = None
    model: Any = None
    wall_time: float = float("nan")

    def __repr__(self) -> str:
        names = ", ".join(self.best_params)
        return f"FitResult({self.backend}, best_loss={self.best_loss:.6g}, n_steps={self.n_steps}, params=[{names}])"

    def save(self, path: str | os.PathLike) -> None:
        """
        Write the result to one file, whole or not at all; the same result gives the same bytes.

        Parameters
        ----------
        path : path
            Of an ``.npz`` archive; arrays are stored exactly.
        """
        path = Path(path)
        magnitudes, units = zip(*map(_split, self.best_params.values()), strict=True)
        about = {"format": _FORMAT, "names": list(self.best_params), "units": units}
        about |= {name: getattr(self, name) for name in _PLAIN}
        arrays = {f"parameter_{k}": value for k, value in enumerate(magnitudes)}
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), history=self.history, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> FitResult:
        """
        Read a result that `save` has written; parameters are quantities or numpy arrays.

        Raises
        ------
        StoreError
            The file is not a saved fit, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                if about.pop("format") != _FORMAT:
                    raise ValueError
                history = stored["history"]
                values = [stored[f"parameter_{k}"] for k in range(len(about["names"]))]
        except FileNotFoundError:
            raise
        except Exception as error:  # a truncated archive raises many kinds
            raise StoreError(f"{path} is not a saved fit, or it is damaged; run the fit again") from error
        units = about.pop("units")
        params = {name: _join(*pair) for name, *pair in zip(about.pop("names"), values, units, strict=True)}
        about["dims"] = {name: tuple(dims) for name, dims in about["dims"].items()}
        return cls(best_params=params, history=history, **about)

    def to_xarray(self) -> xr.Dataset:
        """
        The result as a dataset: one variable a parameter, ``loss(step)``, and the rest as attributes.

        Returns
        -------
        xarray.Dataset
        """
        import xarray as xr

        found: dict[str, Any] = {
            "loss": ("step", np.asarray(self.history), {"long_name": "loss of every evaluation"})
        }
        for name, value in self.best_params.items():
            magnitude, unit = _split(value)
            found[name] = (self.dims[name], magnitude, {"units": unit or "1", "long_name": f"fitted {name}"})
        about = {name: getattr(self, name) for name in _PLAIN if name != "dims"}
        about |= {"kind": "fit", "converged": int(self.converged), "seeds": json.dumps(self.seeds)}
        return xr.Dataset(found, coords={"step": np.arange(len(self.history))}, attrs=about)


_PLAIN = ("best_loss", "n_steps", "backend", "converged", "seeds", "n_skipped", "message", "dims")


def _split(value: Any) -> tuple[np.ndarray, str]:
    """Magnitude, and unit as text that can be read again."""
    if hasattr(value, "mantissa"):
        return np.asarray(value.mantissa), str(value.unit)
    return np.asarray(value), ""


def _join(magnitude: np.ndarray, unit: str) -> Any:
    if not unit:
        return magnitude
    import brainunit as u

    return u.Quantity(magnitude, unit=u.parse_unit(unit))
