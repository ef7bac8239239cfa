"""The result of a fit: parameters with units, history, all its starts, scores; saved and loaded, or as a dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainloom.core.errors import StoreError
from brainloom.fit.archive import read_npz, write_npz

if TYPE_CHECKING:
    import xarray as xr

_FORMAT = "brainloom fit 2"


@dataclass
class Score:
    """
    Loss with fresh noise.

    Attributes
    ----------
    mean, sd : float
        Over realisations; the standard deviation is 0 for a loss without noise.
    values : (realisation,) array
    seeds : list of list of int
        Words of the random key of each realisation; empty if nothing is drawn.
    """

    mean: float
    sd: float
    values: np.ndarray
    seeds: list[list[int]]

    def __repr__(self) -> str:
        return f"Score({self.mean:.6g} ± {self.sd:.2g}, n={len(self.values)})"


@dataclass
class Starts:
    """
    All starts of a fit.

    Attributes
    ----------
    loss : (start,) array
        Lowest loss of each; NaN where a start could not be evaluated.
    validation : (start,) array or None
        Loss on the validation data at that point.
    params : dict
        Name to (start, ...) values at that point, with units.
    history : (start, evaluation) array
        NaN after the end of a start.
    converged : (start,) array
    chosen : int
        The start that is the result.
    """

    loss: np.ndarray
    validation: np.ndarray | None
    params: dict[str, Any]
    history: np.ndarray
    converged: np.ndarray
    chosen: int

    def spread(self) -> dict[str, Any]:
        """Standard deviation over the starts that could be evaluated, of each parameter and of the ``loss``."""
        fine = np.isfinite(self.loss)
        found: dict[str, Any] = {"loss": float(np.std(self.loss[fine]))}
        for name, value in self.params.items():
            magnitude, unit = _split(value)
            found[name] = _join(np.std(magnitude[fine], axis=0), unit)
        return found


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
        Loss of every evaluation, the first at the start; not finite where the model failed. With several starts
        that of the chosen one; the others are in `starts`.
    n_steps : int
        Steps (``"grad"``), iterations (``"scipy"``) or generations of the chosen start.
    backend : str
    converged : bool
        ``"grad"``: the last ten losses lie within a hundredth of what was gained, or line searches gain nothing
        more; ``"scipy"``: what it says; populations: they are narrow (``"cmaes"``), or the last quarter of the
        generations gained less than a hundredth.
    seeds : list of list of int
        Words of the random key of each realisation; empty if nothing was drawn.
    n_skipped : int
        Evaluations that were not finite; none of them is the result.
    message : str
        How the fit ended.
    dims : dict
        Names of the axes of each parameter.
    n_evaluations : int
        Evaluations of the loss by all starts, those inside of line searches included.
    validation_loss : float
        Loss on the validation data; NaN without them.
    starts : Starts or None
        All starts, if there were several.
    prediction : Any
        Prediction, or second output of the loss function, at the best point. Not saved.
    model : Any
        The model, with the best parameters set. Not saved.
    wall_time : float
        Seconds. Not saved, as it differs from run to run.
    scorer : callable
        What `score` calls. Not saved.
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
    n_evaluations: int = 0
    validation_loss: float = float("nan")
    starts: Starts | None = None
    prediction: Any = None
    model: Any = None
    wall_time: float = float("nan")
    scorer: Callable[[Any, int], Score] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        names = ", ".join(self.best_params)
        return f"FitResult({self.backend}, best_loss={self.best_loss:.6g}, n_steps={self.n_steps}, params=[{names}])"

    def score(self, key: Any = None, n: int = 8) -> Score:
        """
        Loss at the best parameters with fresh noise, which is what a report should say.

        The loss of the fit is lower: its parameters suit the noise that it saw.

        Parameters
        ----------
        key : jax.random key, optional
            Drawn from ``brainstate.random`` if not given.
        n : int
            Realisations.

        Returns
        -------
        Score
        """
        if self.scorer is None:
            raise ValueError(
                "a loaded result has no model to score; set the parameters and call Fitter.evaluate"
            )
        return self.scorer(key, n)

    def save(self, path: str | os.PathLike) -> None:
        """
        Write the result to one file, whole or not at all; the same result gives the same bytes.

        Parameters
        ----------
        path : path
            Of an ``.npz`` archive; arrays are stored exactly.
        """
        magnitudes, units = zip(*map(_split, self.best_params.values()), strict=True)
        about = {"format": _FORMAT, "names": list(self.best_params), "units": units}
        about |= {name: getattr(self, name) for name in _PLAIN}
        arrays = {f"parameter_{k}": value for k, value in enumerate(magnitudes)} | {"history": self.history}
        if self.starts is not None:
            arrays |= {f"start_{k}": _split(value)[0] for k, value in enumerate(self.starts.params.values())}
            arrays |= {f"starts_{name}": getattr(self.starts, name) for name in _OF_STARTS}
            if self.starts.validation is not None:
                arrays["starts_validation"] = self.starts.validation
        write_npz(Path(path), {"about": np.array(json.dumps(about)), **arrays})

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
            arrays = read_npz(Path(path))
            about = json.loads(str(arrays["about"]))
            if about.pop("format") not in (_FORMAT, "brainloom fit 1"):
                raise ValueError
            values = [arrays[f"parameter_{k}"] for k in range(len(about["names"]))]
        except FileNotFoundError:
            raise
        except Exception as error:  # a truncated archive raises many kinds
            raise StoreError(f"{path} is not a saved fit, or it is damaged; run the fit again") from error
        names, units = about.pop("names"), about.pop("units")
        params = {name: _join(*pair) for name, *pair in zip(names, values, units, strict=True)}
        about["dims"] = {name: tuple(dims) for name, dims in about["dims"].items()}
        starts = None
        if "starts_loss" in arrays:
            each = [_join(arrays[f"start_{k}"], unit) for k, unit in enumerate(units)]
            known: dict[str, Any] = {name: arrays[f"starts_{name}"] for name in _OF_STARTS}
            known["chosen"] = int(known["chosen"])
            validation = arrays.get("starts_validation")
            starts = Starts(params=dict(zip(names, each, strict=True)), validation=validation, **known)
        return cls(best_params=params, history=arrays["history"], starts=starts, **about)

    def to_xarray(self) -> xr.Dataset:
        """
        The result as a dataset: one variable a parameter, ``loss(step)``, and the rest as attributes.

        Several starts add ``start_loss(start)``, ``start_history(start, start_step)``, and ``start_<name>`` for each
        parameter.

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
        coords = {"step": np.arange(len(self.history))}
        if self.starts is not None:
            found |= self._starts_as_variables(self.starts)
            about["chosen_start"] = self.starts.chosen
            coords |= {"start": np.arange(len(self.starts.loss))}
        return xr.Dataset(found, coords=coords, attrs=about)

    def _starts_as_variables(self, starts: Starts) -> dict[str, Any]:
        found: dict[str, Any] = {
            "start_loss": ("start", starts.loss, {"long_name": "lowest loss of each start"}),
            "start_converged": ("start", starts.converged, {"long_name": "whether a start converged"}),
            "start_history": (
                ("start", "start_step"),
                starts.history,
                {"long_name": "loss of every evaluation"},
            ),
        }
        if starts.validation is not None:
            about = {"long_name": "loss of each start on the validation data"}
            found["start_validation_loss"] = ("start", starts.validation, about)
        for name, value in starts.params.items():
            magnitude, unit = _split(value)
            about = {"units": unit or "1", "long_name": f"fitted {name} of each start"}
            found[f"start_{name}"] = (("start", *self.dims[name]), magnitude, about)
        return found


_PLAIN = (
    "best_loss",
    "n_steps",
    "backend",
    "converged",
    "seeds",
    "n_skipped",
    "message",
    "dims",
    "n_evaluations",
    "validation_loss",
)
_OF_STARTS = ("loss", "history", "converged", "chosen")


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
