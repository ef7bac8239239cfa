"""All scores of one subject: the model, its simulations and its controls against the subject's own data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainloom.analysis.fc import average_correlations, fc_correlation, fisher_z
from brainloom.analysis.fcd import fcd_ks
from brainloom.analysis.features import dynamic_features, features, second_order_features
from brainloom.analysis.meeg_scores import add_meeg_rows, families
from brainloom.analysis.metric_rows import MetricRows
from brainloom.analysis.rewiring import NO_SWAP, refusal
from brainloom.analysis.scores import feature_scores, log_weight_correlation
from brainloom.analysis.signal_dataset import stored_splits
from brainloom.analysis.stationary import mean_features, surrogate_segments

#: Splits that are scored. The model was trained on all of the training part, so validation is not a score.
SCORED = ("train", "test")
#: Stationary surrogates of each split.
N_SURROGATES = 8
#: Analytic and simulated model disagree when their held-out fc_r differ by more than this ...
MAX_DIFFERENCE = 0.02
#: ... or when their FC correlate less than this.
MIN_AGREEMENT = 0.95

_MODEL = ("fc", "lag1", "psd", "variance")


def data_features(signal: xr.Dataset, split: str) -> dict[str, np.ndarray]:
    """Features of one split as plain arrays."""
    return {name: signal[name].sel(split=split).values.astype(np.float64) for name in _MODEL}


def predictor_features(fit: xr.Dataset, predictor: str) -> dict[str, np.ndarray]:
    """Analytic features of one fitted predictor as plain arrays, as far as the fit has them."""
    chosen = fit.sel(predictor=predictor)
    return {
        name: chosen[f"{name}_model"].values.astype(np.float64) for name in _MODEL if f"{name}_model" in fit
    }


def usable_seeds(simulation: xr.Dataset) -> list[int]:
    """Positions of the realisations that did not diverge."""
    finite = np.isfinite(simulation["fc"].values).all(axis=(1, 2))
    finite &= np.isfinite(simulation["psd"].values).all(axis=(1, 2))
    return [int(k) for k in np.flatnonzero(finite)]


def simulated_features(simulation: xr.Dataset, seeds: list[int]) -> dict[str, np.ndarray]:
    """Features of the simulated model: correlations averaged over realisations in Fisher z, the others as they are."""
    chosen = simulation.isel(seed=seeds)
    return {
        "fc": average_correlations(chosen["fc"].values),
        "lag1": average_correlations(chosen["lag1"].values),
        "psd": chosen["psd"].values.mean(axis=0),
        "variance": chosen["variance"].values.mean(axis=0),
    }


def mean_simulated_fc(simulation: xr.Dataset) -> np.ndarray:
    """Mean FC of the realisations that did not diverge, in Fisher z; NaN when none is left."""
    seeds = usable_seeds(simulation)
    if not seeds:
        return np.full(simulation["fc"].shape[1:], np.nan)
    return average_correlations(simulation["fc"].values[seeds])


class SubjectScores:
    """Collects the rows, warnings and extra attributes of one subject.

    BOLD is scored if the recording has it; of other modalities only rows are added (`brainloom.analysis.meeg_scores`).

    Parameters
    ----------
    subject, model : str
        Label, and name of the model.
    connectome, signal, fit, simulation : xarray.Dataset
        Datasets of the subject; nothing of a simulation is scored without one.
    fcd : bool
        Score functional connectivity dynamics and their stationary surrogates.
    seed : int
        Seed of the study, for the surrogates.
    rewire : int
        Rewired controls that were asked for.
    """

    def __init__(
        self,
        subject: str,
        model: str,
        *,
        connectome: xr.Dataset,
        signal: xr.Dataset,
        fit: xr.Dataset,
        simulation: xr.Dataset | None = None,
        fcd: bool,
        seed: int,
        rewire: int = 0,
    ) -> None:
        self.connectome, self.signal, self.fit = connectome, signal, fit
        self.simulation = xr.Dataset() if simulation is None else simulation
        self.fcd, self.seed, self.rewire = fcd, seed, rewire
        self.rows = MetricRows(subject, model)
        self.warnings: list[str] = []
        self.attrs: dict[str, Any] = {}
        self.has_bold = "fc" in signal
        if not self.has_bold:
            return
        self.config = json.loads(signal.attrs["signal_config"])
        self.band = self.config["band"]
        self.windows = (signal.attrs["fcd_window_frames"], signal.attrs["fcd_step_frames"])
        self.frequency = signal["frequency"].values
        self.data = {split: data_features(signal, split) for split in SCORED}

    def score(self, prediction: Mapping[str, Any], split: str) -> dict[str, float]:
        """Scores of features against those of one split."""
        return feature_scores(prediction, self.data[split], self.frequency, self.band)

    def ks(self, fcd: np.ndarray, split: str) -> dict[str, float]:
        """KS distance of FCD to that of one split; empty when FCD is not wanted."""
        if not self.fcd:
            return {}
        return {"fcd_ks": fcd_ks(fcd, self.signal["fcd"].sel(split=split).values, *self.windows)}

    def add_data(self) -> None:
        """Ceiling (own training features as predictor of the test part), weights as predictor, values of the data."""
        train = self.signal["fcd"].sel(split="train").values
        self.rows.add("test", "ceiling", self.score(self.data["train"], "test") | self.ks(train, "test"))
        weights = self.connectome["weights"].values
        for split in SCORED:
            fc = self.data[split]["fc"]
            r = fc_correlation(weights, fc)
            self.rows.add(split, "structural", {"fc_r": r, "fc_z": float(fisher_z(r))})
            log_r = log_weight_correlation(weights, fc)
            if np.isfinite(log_r):
                self.attrs[f"structural_log_fc_r_{split}"] = log_r
            value = float(self.signal["metastability"].sel(split=split))
            self.rows.add(split, "empirical", {"metastability": value})

    def add_fitted(self) -> None:
        """The fitted model and the controls; random controls as every seed and as mean over seeds."""
        for family, predictors in families(self.fit).items():
            found = [predictor_features(self.fit, predictor) for predictor in predictors]
            finite = [prediction for prediction in found if np.isfinite(prediction["fc"]).all()]
            if len(finite) < len(found):
                self.warnings.append(
                    f"{len(found) - len(finite)} of {len(found)} fits of {family} have no finite FC and are not scored."
                )
            for split in SCORED if finite else ():
                if predictors[0] == family or family == "model_analytic":
                    self.rows.add(split, family, self.score(finite[0], split))
                else:
                    each = {k: self.score(prediction, split) for k, prediction in enumerate(finite)}
                    self.rows.add_repeated(split, family, each)

    def add_simulated(self) -> None:
        """Mean features over realisations, FCD pooled over them, and every realisation as a row of its own."""
        seeds = usable_seeds(self.simulation)
        n_all = self.simulation.sizes["seed"]
        if len(seeds) < n_all:
            self.warnings.append(f"{n_all - len(seeds)} of {n_all} realisations diverged and are left out.")
        if not seeds:
            return
        mean = simulated_features(self.simulation, seeds)
        fcd = self.simulation["fcd"].values
        for split in SCORED:
            scores = self.score(mean, split) | self.ks(fcd[seeds], split)
            self.rows.add(split, "model_simulated", scores, n=len(seeds))
            for k in seeds:
                one = self.score(simulated_features(self.simulation, [k]), split) | self.ks(fcd[k], split)
                self.rows.add(split, "model_simulated", one, seed=k)
        values = {k: {"metastability": float(self.simulation["metastability"][k])} for k in seeds}
        self.rows.add_repeated("test", "model_simulated", values)

    def add_surrogates(self) -> None:
        """Stationary surrogates: of each split what FCD and metastability look like without dynamics, of the training
        part what they predict of the held-out one."""
        splits = stored_splits(self.signal)
        tr = self.signal.attrs["repetition_time"]
        made_of = {"train": features if self.fcd else second_order_features, "test": dynamic_features}
        for index, split in enumerate(SCORED):
            if not self.fcd and split != "train":
                continue
            made = [
                made_of[split](surrogate_segments(splits[split], [self.seed, index, k]), tr, self.config)
                for k in range(N_SURROGATES)
            ]
            if self.fcd:
                pooled = self.ks(np.stack([surrogate["fcd"] for surrogate in made]), split)
                mean = float(np.mean([surrogate["metastability"] for surrogate in made]))
                self.rows.add(split, "stationary_surrogate", pooled | {"metastability": mean}, n=N_SURROGATES)
                for k, surrogate in enumerate(made):
                    one = self.ks(surrogate["fcd"], split) | {
                        "metastability": float(surrogate["metastability"])
                    }
                    self.rows.add(split, "stationary_surrogate", one, seed=k)
            if split == "train":
                ks = self.ks(np.stack([surrogate["fcd"] for surrogate in made]), "test") if self.fcd else {}
                scores = self.score(mean_features(made), "test") | ks
                self.rows.add("test", "stationary_train", scores, n=N_SURROGATES)

    def add_controls_left_out(self) -> None:
        """Say which control was asked for and could not be made."""
        weights = self.connectome["weights"].values
        if self.rewire and "control_rewired" not in families(self.fit):
            self.warnings.append(refusal(weights) or NO_SWAP)

    def add_agreement(self) -> None:
        """Analytic against simulated FC at every noise level, with a warning where they disagree."""
        analytic = predictor_features(self.fit, "model")["fc"]
        levels = [float(level) for level in self.simulation["noise_level"].values]
        n = len(usable_seeds(self.simulation))
        for level in sorted(levels):
            simulated = self.simulation["fc_mean"].sel(noise_level=level).values
            if not np.isfinite(simulated).all():
                self.warnings.append(f"No realisation at noise level {level:g} has a finite FC.")
                continue
            main = level == min(levels)
            r = fc_correlation(analytic, simulated)
            name = "analytic_simulated_r" if main else "analytic_simulated_r_strong"
            self.rows.add("test", "model_simulated", {name: r}, n=n)
            self.attrs[f"analytic_simulated_level{'' if main else '_strong'}"] = level
            difference = fc_correlation(simulated, self.data["test"]["fc"]) - fc_correlation(
                analytic, self.data["test"]["fc"]
            )
            if not main:
                self.attrs["analytic_simulated_difference_strong"] = difference
                continue
            self.attrs["analytic_simulated_difference"] = difference
            if self.fit.attrs.get("stage", "analytic") != "analytic":
                continue  # the simulation is run at other estimates, because the linear theory did not hold
            if abs(difference) > MAX_DIFFERENCE:
                self.warnings.append(
                    f"The held-out FC correlation of the simulated model is {abs(difference):.3f} "
                    f"{'above' if difference > 0 else 'below'} that of the analytic one (noise level {level:g}), "
                    f"more than {MAX_DIFFERENCE:g}."
                )
            if r < MIN_AGREEMENT:
                self.warnings.append(
                    f"Analytic and simulated FC correlate at {r:.3f} (noise level {level:g}), "
                    f"less than {MIN_AGREEMENT:g}."
                )

    def to_dataset(self) -> xr.Dataset:
        """All rows; attribute `warnings` is a JSON list of sentences."""
        for text in self.rows.undefined:
            self.warnings.append(f"The score {text} is not defined for these data.")
        ds = self.rows.to_dataset()
        return ds.assign_attrs(warnings=json.dumps(self.warnings), **self.attrs)


def score_subject(subject: str, model: str, **inputs: Any) -> xr.Dataset:
    """Metrics dataset of one subject.

    Parameters
    ----------
    subject, model : str
        Label, and name of the model.
    **inputs
        See `SubjectScores`.

    Returns
    -------
    xarray.Dataset
        Dimension `row` with `subject, model, split, predictor, metric, value, n, seed`; `seed` is -1 in rows that
        belong into the table of the study. Attributes: `warnings` (JSON list of sentences),
        `structural_log_fc_r_<split>` (log weights against FC, connected pairs only).
    """
    scores = SubjectScores(subject, model, **inputs)
    # A modality without weight in the fit has data, and no model.
    fitted, simulated = "fc_model" in scores.fit, "fc" in scores.simulation
    if scores.has_bold:
        scores.add_data()
        if fitted:
            scores.add_fitted()
        if simulated:
            scores.add_simulated()
        scores.add_surrogates()
        if fitted and simulated:
            scores.add_agreement()
    scores.add_controls_left_out()
    add_meeg_rows(scores.rows, scores.signal, scores.fit, scores.simulation, scores.warnings)
    return scores.to_dataset()
