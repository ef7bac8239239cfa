"""Scores of what no fit has seen besides held-out FC: lagged correlations, spectra, variances of pooled fits and of the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainloom.analysis.fc import average_correlations, fisher_z
from brainloom.analysis.metric_rows import COLUMNS
from brainloom.analysis.scores import feature_scores

SPLITS = ("train", "test")
FEATURES = ("lag1", "psd", "variance")


@dataclass(frozen=True)
class SubjectFeatures:
    """
    Features of a recording besides FC, in single precision as there may be many subjects.

    Attributes
    ----------
    parts : dict of str to dict of str to array
        Of the training and of the held-out part: ``lag1, psd, variance``.
    pooled : dict of str to array
        The same of the pooled model; empty without one.
    n_frames : (float, float)
    frequency : (frequency,) array, Hz
    band : list of float or None
    """

    parts: dict[str, dict[str, np.ndarray]]
    pooled: dict[str, np.ndarray]
    n_frames: tuple[float, float]
    frequency: np.ndarray
    band: list[float] | None

    def scores(self, prediction: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        """Scores of ``lag1, psd, variance`` against one part of the recording."""
        return feature_scores(prediction, self.parts[split], self.frequency, self.band)

    def whole(self) -> dict[str, np.ndarray]:
        """Means over both parts by frames; lagged correlations as Fisher z, so that they can be averaged on."""
        train, test = (self.parts[split] for split in SPLITS)
        lag1 = average_correlations([train["lag1"], test["lag1"]], self.n_frames)
        means = {
            name: np.average([train[name], test[name]], axis=0, weights=self.n_frames)
            for name in ("psd", "variance")
        }
        return {"lag1": np.asarray(fisher_z(lag1))} | means


def subject_features(signal: xr.Dataset, pooled: xr.Dataset | None = None) -> SubjectFeatures:
    """Take of a signal dataset, and of a pooled one where there is one, what is scored here."""
    return SubjectFeatures(
        parts={
            split: {name: signal[name].sel(split=split).values.astype(np.float32) for name in FEATURES}
            for split in SPLITS
        },
        pooled={}
        if pooled is None
        else {
            name: pooled[f"{name}_model"].values.astype(np.float32)
            for name in FEATURES
            if f"{name}_model" in pooled
        },
        n_frames=(
            float(signal["n_frames"].sel(split="train")),
            float(signal["n_frames"].sel(split="test")),
        ),
        frequency=signal["frequency"].values,
        band=json.loads(signal.attrs["signal_config"])["band"],
    )


def generalisation_rows(features: Mapping[str, SubjectFeatures], model: str) -> pd.DataFrame:
    """
    Rows of metrics.tsv: pooled fits and the mean of the others as predictors of what was not fitted.

    Parameters
    ----------
    features : mapping of str to SubjectFeatures
    model : str
        Name of the model.

    Returns
    -------
    pandas.DataFrame
        Columns of metrics.tsv; scores that are not defined are left out. The mean of the others needs the frequencies of all
        recordings to be the same, else it has no spectra.
    """
    rows = []

    def add(subject: str, predictor: str, prediction: Mapping[str, np.ndarray]) -> None:
        for split in SPLITS:
            for metric, value in features[subject].scores(prediction, split).items():
                if np.isfinite(value):
                    rows.append((subject, model, split, predictor, metric, value, 1))

    for subject, one in features.items():
        add(subject, "model_pooled", one.pooled)
    if len(features) >= 2:
        first = next(iter(features.values())).frequency
        names = [
            name
            for name in FEATURES
            if name != "psd" or all(np.array_equal(one.frequency, first) for one in features.values())
        ]
        total: dict[str, Any] = dict.fromkeys(names, 0.0)
        for one in features.values():
            total = {name: total[name] + value for name, value in one.whole().items() if name in total}
        for subject, one in features.items():
            own = one.whole()
            others = {name: (total[name] - own[name]) / (len(features) - 1) for name in names}
            add(subject, "group_mean", others | {"lag1": np.tanh(others["lag1"])})
    return pd.DataFrame(rows, columns=list(COLUMNS))
