"""What data identify of a model: estimates with intervals, stiff and sloppy directions, in words and as a dataset."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from brainloom.core.errors import StoreError
from brainloom.fit.laplace import Spectrum
from brainloom.fit.readout import Estimate

if TYPE_CHECKING:
    import xarray as xr

# Share of the prior's standard deviation that the data take away: yes, weak.
IDENTIFIED, WEAKLY = 0.5, 0.1
# Correlations that are told as a trade-off.
TRADED = 0.9
WORDS = {"yes": "identified", "weak": "weakly identified", "no": "not identified", "": "not judged"}
_FORMAT = "brainloom identification 1"


@dataclass
class Identification:
    """
    Result of `brainloom.Fitter.identify`.

    Matrices and directions are those of the unconstrained numbers that an optimiser sees, the coefficients.

    Attributes
    ----------
    estimates : dict of Estimate
        By dotted name, in the units of the model.
    coefficients : list of str
        Names of the unconstrained numbers, such as ``node.a[3]``.
    theta : (coefficient,) array
        Where the model is.
    step : (coefficient,) array
        From there to the optimum of the quadratic approximation, in standard deviations; large where a fit has not
        converged.
    information : (coefficient, coefficient) array
        Curvature of the data's part of the loss: for a likelihood its information.
    prior : (coefficient, coefficient) array
        Curvature of the priors and penalties, `prior_sd` included.
    covariance : (coefficient, coefficient) array
        Infinite on the diagonal where nothing holds a number, and NaN beside it.
    scale : (coefficient,) array
        Units of `spectrum`: standard deviation of the prior, or what is as large as the parameter.
    spectrum : Spectrum
        Stiff and sloppy directions.
    seeds : (coefficient, coefficient) array or None
        Covariance of the estimate over noise seeds.
    level : float
        Of the intervals.
    method, errors : str
    negative : float
        Lowest curvature by the largest; below 0 the model is not at a minimum.
    notes : list of str
        What else is to know.
    """

    estimates: dict[str, Estimate]
    coefficients: list[str]
    theta: np.ndarray
    step: np.ndarray
    information: np.ndarray
    prior: np.ndarray
    covariance: np.ndarray
    scale: np.ndarray
    spectrum: Spectrum
    seeds: np.ndarray | None
    level: float
    method: str
    errors: str
    negative: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {WORDS[word]}" for word, n in self.counts().items() if n)
        return f"Identification({counts}; {self.spectrum.n_sloppy} of {len(self.theta)} directions sloppy)"

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of each coefficient."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlation(self) -> np.ndarray:
        """(coefficient, coefficient) correlations of the errors; NaN where nothing holds a number."""
        sd = self.sd
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.covariance / np.outer(sd, sd)

    def identified(self, name: str) -> np.ndarray:
        """``"yes"``, ``"weak"`` or ``"no"`` for each number of a parameter; ``""`` where that cannot be said."""
        return verdict(self.estimates[name])

    def counts(self) -> dict[str, int]:
        """How many fitted numbers are identified, weakly, not, and not judged."""
        own = [self.estimates[name] for name in self._own()]
        words = np.concatenate([np.ravel(verdict(one)) for one in own])
        return {word: int((words == word).sum()) for word in WORDS}

    def trade_offs(self, least: float = TRADED) -> list[tuple[str, str, float]]:
        """Pairs of coefficients whose errors correlate by more than `least` in magnitude, strongest first."""
        r = np.nan_to_num(np.triu(self.correlation, 1))
        rows, columns = np.nonzero(np.abs(r) > least)
        order = np.argsort(-np.abs(r[rows, columns]), kind="stable")
        names = self.coefficients
        return [
            (names[i], names[j], float(r[i, j])) for i, j in zip(rows[order], columns[order], strict=True)
        ]

    def direction(self, number: int, n: int = 4) -> str:
        """A direction in words: its largest parts, in units of `scale`."""
        vector = self.spectrum.vector[number]
        order = np.argsort(-np.abs(vector), kind="stable")[:n]
        parts = [
            f"{'-' if vector[k] < 0 else '+'} {abs(vector[k]):.2g} {self.coefficients[k]}"
            for k in order
            if abs(vector[k]) > 0.05
        ]
        more = np.sum(vector**2) - np.sum(vector[order] ** 2) > 0.05
        return " ".join(parts).removeprefix("+ ") + (" + ..." if more else "")

    def summary(self) -> str:
        """A table, and a sentence for each parameter."""
        from brainloom.fit.identification_text import text

        return text(self)

    def to_xarray(self) -> xr.Dataset:
        """
        Everything as one dataset.

        Returns
        -------
        xarray.Dataset
            ``estimate, sd, lower, upper, contraction, relative_error, identified (entry)`` with coordinates
            ``parameter`` and ``unit``; ``theta, step, scale (coefficient)``, ``information, prior_information,
            covariance (coefficient, coefficient_to)``, ``eigenvalue(direction)``, ``eigenvector(direction,
            coefficient)``.
        """
        import xarray as xr

        rows: dict[str, list] = {key: [] for key in ("entry", "parameter", "unit", *_ENTRIES)}
        shapes: dict[str, list[int]] = {}
        for name, one in self.estimates.items():
            value, unit = _split(one.value)
            shapes[name] = list(value.shape)
            rows["entry"] += one.labels
            rows["parameter"] += [name] * value.size
            rows["unit"] += [unit or "1"] * value.size
            for key in _ENTRIES:
                given = verdict(one) if key == "identified" else getattr(one, _FIELDS.get(key, key))
                rows[key] += np.ravel(
                    np.full(value.shape, np.nan) if given is None else _split(given)[0]
                ).tolist()
        pair = ("coefficient", "coefficient_to")
        data: dict[str, Any] = {
            key: ("entry", np.array(rows[key], str if key == "identified" else float), about)
            for key, about in _ENTRIES.items()
        }
        data |= {
            "theta": ("coefficient", self.theta, {"units": "1", "long_name": "unconstrained number"}),
            "step": (
                "coefficient",
                self.step,
                {"units": "1", "long_name": "distance from the optimum by the sd"},
            ),
            "scale": ("coefficient", self.scale, {"units": "1", "long_name": "unit of eigenvectors"}),
            "information": (
                pair,
                self.information,
                {"units": "1", "long_name": "curvature of the data's loss"},
            ),
            "prior_information": (pair, self.prior, {"units": "1", "long_name": "curvature of the priors"}),
            "covariance": (pair, self.covariance, {"units": "1", "long_name": "covariance of the errors"}),
            "eigenvalue": (
                "direction",
                self.spectrum.value,
                {"units": "1", "long_name": "curvature along a direction"},
            ),
            "eigenvector": (
                ("direction", "coefficient"),
                self.spectrum.vector,
                {"units": "1", "long_name": "direction"},
            ),
        }
        if self.seeds is not None:
            about = {"units": "1", "long_name": "covariance of the estimate over noise seeds"}
            data["seed_covariance"] = (pair, self.seeds, about)
        coords = {key: ("entry", np.array(rows[key], str)) for key in ("entry", "parameter", "unit")}
        names = np.array(self.coefficients, str)
        coords |= {"coefficient": ("coefficient", names), "coefficient_to": ("coefficient_to", names)}
        own = self.spectrum
        attrs = {
            "kind": "identification",
            "format": _FORMAT,
            "level": self.level,
            "method": self.method,
            "errors": self.errors,
            "negative_curvature": self.negative,
            "notes": json.dumps(self.notes),
            "shapes": json.dumps(shapes),
            "n_sloppy": own.n_sloppy,
            "n_flat": own.n_flat,
            "condition": own.condition if np.isfinite(own.condition) else "inf",
            "sloppy": own.rule,
        }
        return xr.Dataset(data, coords=coords, attrs=attrs)

    def save(self, path: str | os.PathLike) -> None:
        """Write to one ``.zarr.zip`` file, whole or not at all; the same result gives the same bytes."""
        from brainloom.store import write_dataset

        write_dataset(path, self.to_xarray())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Identification:
        """
        Read what `save` has written.

        Raises
        ------
        StoreError
            The file holds something else, or is damaged.
        """
        from brainloom.store import read_dataset

        ds = read_dataset(path)
        if ds.attrs.get("format") != _FORMAT:
            raise StoreError(f"{path} is not a saved identification; write one with Identification.save")
        parameter, unit = ds["parameter"].values.astype(str), ds["unit"].values.astype(str)
        estimates = {}
        for name, shape in json.loads(ds.attrs["shapes"]).items():
            rows = np.flatnonzero(parameter == name)
            one: dict[str, Any] = {
                key: ds[key].values[rows].reshape(shape) for key in _ENTRIES if key != "identified"
            }
            own = "" if unit[rows[0]] == "1" else unit[rows[0]]
            for key in ("estimate", "sd", "lower", "upper", "seed_sd"):
                one[key] = _join(one[key], own)
            if "seed_covariance" not in ds:
                one["seed_sd"] = None
            labels = [str(label) for label in ds["entry"].values[rows]]
            estimates[name] = Estimate(value=one.pop("estimate"), labels=labels, **one)
        spectrum = Spectrum(
            ds["eigenvalue"].values,
            ds["eigenvector"].values,
            int(ds.attrs["n_flat"]),
            int(ds.attrs["n_sloppy"]),
            float(ds.attrs["condition"]),
            ds.attrs["sloppy"],
        )
        return cls(
            estimates=estimates,
            coefficients=[str(label) for label in ds["coefficient"].values],
            theta=ds["theta"].values,
            step=ds["step"].values,
            information=ds["information"].values,
            prior=ds["prior_information"].values,
            covariance=ds["covariance"].values,
            scale=ds["scale"].values,
            spectrum=spectrum,
            seeds=ds["seed_covariance"].values if "seed_covariance" in ds else None,
            level=float(ds.attrs["level"]),
            method=ds.attrs["method"],
            errors=ds.attrs["errors"],
            negative=float(ds.attrs["negative_curvature"]),
            notes=json.loads(ds.attrs["notes"]),
        )

    def _own(self) -> list[str]:
        """Parameters with numbers of their own, not those computed from others."""
        mine = {label.partition("[")[0] for label in self.coefficients}
        return [name for name in self.estimates if name in mine]


def verdict(one: Estimate) -> np.ndarray:
    """
    ``"yes"`` where the data take half of the prior's standard deviation away, ``"weak"`` from a tenth, else ``"no"``.

    Without a prior the same of the relative error, as if the prior were as wide as the value is large; ``""`` where
    the value is 0, so that there is no relative error.
    """
    share = np.where(np.isnan(one.contraction), 1.0 - one.relative_error, one.contraction)
    found = np.where(share >= IDENTIFIED, "yes", np.where(share >= WEAKLY, "weak", "no"))
    return np.where(np.isnan(share), "", found)


_ENTRIES: dict[str, dict[str, str]] = {
    "estimate": {"long_name": "estimate"},
    "sd": {"long_name": "standard error"},
    "lower": {"long_name": "lower end of the interval"},
    "upper": {"long_name": "upper end of the interval"},
    "contraction": {"units": "1", "long_name": "1 - sd / sd(prior), unconstrained"},
    "relative_error": {"units": "1", "long_name": "sd by the value"},
    "seed_sd": {"long_name": "part of the error from noise seeds"},
    "identified": {"long_name": "whether the data identify it"},
}
_FIELDS = {"estimate": "value"}


def _split(value: Any) -> tuple[np.ndarray, str]:
    if hasattr(value, "mantissa"):
        return np.asarray(value.mantissa), str(value.unit)
    return np.asarray(value), ""


def _join(magnitude: np.ndarray, unit: str) -> Any:
    if not unit:
        return magnitude
    import brainunit as u

    return u.Quantity(magnitude, unit=u.parse_unit(unit))
