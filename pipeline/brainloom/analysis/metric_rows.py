"""Rows of scores: how analysis collects them and how they become a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

#: Columns of metrics.tsv, in this order.
COLUMNS = ("subject", "model", "split", "predictor", "metric", "value", "n")
#: Value of `seed` in rows that are not one realisation or one random control.
AVERAGED = -1

_LONG_NAME = {
    "subject": "subject label, or group for cohort numbers",
    "model": "name of the fitted model",
    "split": "part of the data that was predicted",
    "predictor": "what predicted it",
    "metric": "name of the score",
    "value": "value of the score",
    "n": "realisations averaged",
    "seed": "number of the realisation or random control, -1 when averaged",
}


@dataclass
class MetricRows:
    """Collects rows of one subject; values that are not finite are kept out and named in `undefined`."""

    subject: str
    model: str
    rows: list[tuple] = field(default_factory=list)
    undefined: list[str] = field(default_factory=list)

    def add(
        self, split: str, predictor: str, scores: Mapping[str, float], *, n: int = 1, seed: int = AVERAGED
    ) -> None:
        """Add one row a score."""
        for metric, value in scores.items():
            if not np.isfinite(value):
                if seed == AVERAGED:
                    self.undefined.append(f"{metric} of {predictor} on {split}")
                continue
            self.rows.append((self.subject, self.model, split, predictor, metric, float(value), n, seed))

    def add_repeated(self, split: str, predictor: str, each: Mapping[int, Mapping[str, float]]) -> None:
        """Add a row a score and seed, and the mean over seeds of every score."""
        for seed, scores in each.items():
            self.add(split, predictor, scores, seed=seed)
        names = {name: None for scores in each.values() for name in scores}
        mean = {name: float(np.mean([scores[name] for scores in each.values()])) for name in names}
        self.add(split, predictor, mean, n=len(each))

    def to_dataset(self) -> xr.Dataset:
        """Dataset with dimension `row` and the columns of metrics.tsv plus `seed`."""
        return rows_dataset(self.rows)


def rows_dataset(rows: Iterable[tuple]) -> xr.Dataset:
    """Dataset of rows `(subject, model, split, predictor, metric, value, n, seed)`."""
    columns = list(zip(*rows, strict=True)) or [()] * 8
    kinds = (str, str, str, str, str, np.float64, np.int64, np.int64)
    return xr.Dataset(
        {
            name: ("row", np.array(values, dtype=kind), {"long_name": _LONG_NAME[name], "units": "1"})
            for name, values, kind in zip((*COLUMNS, "seed"), columns, kinds, strict=True)
        }
    )


def averaged_rows(ds: xr.Dataset) -> pd.DataFrame:
    """Rows of a metrics dataset that go to metrics.tsv: those that are not one seed of several.

    Parameters
    ----------
    ds : metrics dataset

    Returns
    -------
    pandas.DataFrame with the columns of `COLUMNS`.
    """
    keep = ds["seed"].values == AVERAGED
    return pd.DataFrame({name: ds[name].values[keep] for name in COLUMNS})
