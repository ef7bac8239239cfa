"""What the cohort pages need of one subject, small enough to keep for thousands of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from brainloom.analysis.group_stats import PairedComparison, identification, paired_comparison
from brainloom.report.split_text import split_facts

#: Below this margin (1/s) the slowest time constant exceeds 200 s, half of a usual scan half.
MARGIN = 0.005
#: Figures draw so many subjects one by one at most, evenly spaced; means and intervals are always of all.
MAX_DRAWN = 200
#: Final losses of the starts that differ by more than this share count as different solutions.
LOSS_SPREAD = 0.02

#: Kinds of datasets a subject has, in the order of the workflow.
KINDS = ("connectome", "signal", "fit", "posterior", "simulation", "metrics")


@dataclass
class SubjectSummary:
    """Numbers of one subject for the cohort figures.

    Attributes
    ----------
    subject : str
    reason : str
        Why the subject has no result; empty if it has.
    agreement : dict of float -> float
        Noise level -> correlation of analytic and mean simulated FC.
    margin : float
        Stability margin of the fitted model, 1/s.
    regions : tuple of str
    spectra : dict of str -> (frequency,) ndarray
        `frequency`, and where present `empirical`, `analytic`, `simulated`: means over regions.
    eigenvalues : (direction,) ndarray or None
        Of the curvature in log-parameter space, sorted from stiff to sloppy.
    data : dict of str -> float
        Facts about the recording and the connectome.
    electric, electric_units : dict of str -> ...
        EEG and MEG by name: spectra as `brainloom.report.meeg_figures.meeg_spectra` gives them, and the unit.
    dvars_unit : str
        "%" of the mean, or "sd" for recordings without a mean.
    split : dict
        How the recording was cut: see `brainloom.report.split_text.split_facts`.
    stages : list of dict of str
        Of a fit with simulation stages: one row a stage, as it is shown.
    warnings : list of str
    """

    subject: str
    reason: str = ""
    agreement: dict[float, float] = field(default_factory=dict)
    margin: float = float("nan")
    regions: tuple[str, ...] = ()
    spectra: dict[str, np.ndarray] = field(default_factory=dict)
    eigenvalues: np.ndarray | None = None
    data: dict[str, float] = field(default_factory=dict)
    electric: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    electric_units: dict[str, str] = field(default_factory=dict)
    dvars_unit: str = "%"
    split: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class GroupSummary:
    """What the report shows of the group dataset.

    Attributes
    ----------
    fingerprint : (subject, subject_to) ndarray
        Correlation of the model of subject with the held-out FC of subject_to; empty with fewer than two subjects.
    labels : list of str
    edge_icc : float
        Median over edges of the ICC of FC between training and held-out part.
    warnings : list of str
    """

    fingerprint: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    labels: list[str] = field(default_factory=list)
    edge_icc: float = float("nan")
    warnings: list[str] = field(default_factory=list)

    @property
    def identified(self) -> int:
        """Held-out FCs that their own subject's model predicts best."""
        return int(identification(self.fingerprint)[0].sum()) if self.labels else 0


def summarise_group(ds) -> GroupSummary:
    """Summary of a group dataset."""
    out = GroupSummary(warnings=stored_warnings(ds))
    if "fingerprint" in ds and "model_analytic" in ds["fingerprint_predictor"].values:
        chosen = ds["fingerprint"].sel(fingerprint_predictor="model_analytic")
        out.fingerprint = chosen.transpose("subject", "subject_to").values.astype(float)
        out.labels = [str(label) for label in ds["subject"].values]
    if "fc_icc" in ds:
        edges = upper_triangle(ds["fc_icc"])
        out.edge_icc = float(np.nanmedian(edges)) if np.isfinite(edges).any() else float("nan")
    return out


def drawn(n: int) -> np.ndarray:
    """
    Places of the subjects that are drawn one by one: all, or `MAX_DRAWN` evenly spaced ones.

    Examples
    --------
    >>> drawn(3).tolist(), len(drawn(1000)), int(drawn(1000)[-1])
    ([0, 1, 2], 200, 999)
    """
    return np.unique(np.linspace(0, n - 1, min(n, MAX_DRAWN)).round().astype(int)) if n else np.arange(0)


def drawn_text(n: int) -> str:
    """What a caption says of the subjects that are not drawn; empty where all are."""
    return f" {MAX_DRAWN} of {n} subjects are drawn, evenly spaced." if n > MAX_DRAWN else ""


def finite_correlation(x, y) -> float:
    """Pearson correlation over the entries finite in both, NaN with fewer than three or no variance."""
    x, y = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    keep = np.isfinite(x) & np.isfinite(y)
    if keep.sum() < 3:
        return float("nan")
    x, y = x[keep] - x[keep].mean(), y[keep] - y[keep].mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else float("nan")


def upper_triangle(matrix) -> np.ndarray:
    """Entries above the diagonal of a (region, region) array."""
    matrix = np.asarray(matrix, dtype=float)
    return matrix[np.triu_indices(matrix.shape[-1], 1)]


def bootstrap_interval(
    values, *, level: float = 0.95, draws: int = 10000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over subjects.

    Parameters
    ----------
    values : (subject,) array_like
        NaN are left out.

    Returns
    -------
    tuple of float
        NaN, NaN with fewer than two finite values.
    """
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    if x.size < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    chunk = max(1, min(draws, 2_000_000 // x.size))
    means = np.concatenate(
        [
            x[rng.integers(0, x.size, size=(min(chunk, draws - start), x.size))].mean(axis=1)
            for start in range(0, draws, chunk)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def scores(metrics: pd.DataFrame, *, metric: str, split: str) -> pd.DataFrame:
    """Subjects x predictors table of one metric, without the cohort rows; finite values or NaN."""
    rows = metrics[
        (metrics["metric"] == metric) & (metrics["split"] == split) & (metrics["subject"] != "group")
    ]
    if rows.empty:
        return pd.DataFrame()
    table = rows.pivot_table(
        index="subject", columns="predictor", values="value", aggfunc="mean", dropna=False
    )
    return table.dropna(axis=1, how="all").dropna(axis=0, how="all")


def compare(a: pd.Series, b: pd.Series, *, seed: int = 0) -> PairedComparison | None:
    """Paired comparison a - b over the subjects that have both; None with fewer than two."""
    both = pd.concat([a, b], axis=1, join="inner").dropna().to_numpy(dtype=float)
    return paired_comparison(both[:, 0], both[:, 1], seed=seed) if len(both) >= 2 else None


def summarise_subject(subject: str, datasets: dict) -> SubjectSummary:
    """Summary of one subject.

    Parameters
    ----------
    subject : str
    datasets : dict of str -> xarray.Dataset
        Kind -> dataset; failed ones have `status` "failed" and a `reason`, missing ones are left out.
    """
    out = SubjectSummary(subject)
    good = {kind: ds for kind, ds in datasets.items() if ds.attrs.get("status", "ok") == "ok"}
    bad = [ds.attrs.get("reason", "") for ds in datasets.values() if ds.attrs.get("status", "ok") != "ok"]
    if bad:
        out.reason = str(bad[0]) or "a step failed without giving a reason"
    if "connectome" in good:
        out.data["density"] = float(good["connectome"].attrs.get("density", np.nan))
    signal, fit, simulation = good.get("signal"), good.get("fit"), good.get("simulation")
    if signal is not None:
        _summarise_signal(out, signal)
    if fit is not None and "model" in fit["predictor"].values:
        _summarise_fit(out, fit.sel(predictor="model"))
    if simulation is not None:
        _summarise_simulation(out, simulation, fit)
    for ds in good.values():
        out.warnings += [text for text in stored_warnings(ds) if text not in out.warnings]
    if "posterior" in good and "eigenvalue" in good["posterior"]:
        values = good["posterior"]["eigenvalue"].values.astype(float)
        out.eigenvalues = np.sort(values[np.isfinite(values)])[::-1]
    return out


def _summarise_signal(out: SubjectSummary, signal) -> None:
    out.regions = tuple(str(r) for r in signal["region"].values)
    out.split = split_facts(signal.attrs)
    if "psd" in signal and "test" in signal["split"].values:
        out.spectra["frequency"] = signal["frequency"].values
        out.spectra["empirical"] = _over_regions(signal["psd"].sel(split="test"))
    repetition_time = float(signal.attrs.get("repetition_time", np.nan))
    out.dvars_unit = "%" if "percent" in str(signal.attrs.get("dvars_unit", "percent")) else "sd"
    out.data["n_regions"] = signal.sizes["region"]
    out.data["repetition_time"] = repetition_time
    out.data["dvars_median"] = float(signal.attrs.get("dvars_median", np.nan))
    if "tsnr" in signal:
        out.data["tsnr"] = float(np.nanmedian(signal["tsnr"].values))
    for split in ("train", "test"):
        if split not in signal["split"].values:
            continue
        for name in ("n_frames", "effective_dof"):
            if name in signal:
                out.data[f"{name}_{split}"] = float(signal[name].sel(split=split))


def _summarise_fit(out: SubjectSummary, fit) -> None:
    best = int(fit["best_start"]) if np.isfinite(float(fit["best_start"])) else 0
    out.margin = float(fit["stability_margin"])
    if "psd_model" in fit:
        out.spectra.setdefault("frequency", fit["frequency"].values)
        out.spectra["analytic"] = _over_regions(fit["psd_model"])
    if "stage" in fit.dims:
        out.stages = _stage_rows(fit)
    final = final_losses(fit)
    # Controls may have more starts than the model: its places for them are empty.
    used = fit["n_steps"].values > 0 if "n_steps" in fit else np.ones(final.size, dtype=bool)
    out.data["loss"] = final[best] if best < len(final) else np.nan
    final = final[used]
    finite = final[np.isfinite(final)]
    out.data["n_starts"] = len(final)
    if "converged" in fit:
        converged = np.asarray(fit["converged"].values).astype(bool)
        out.data["n_converged"] = int(converged[used].sum())
        if not converged[best]:
            taken = f" of {int(fit['n_steps'][best])} steps" if "n_steps" in fit else ""
            out.warnings.append(f"The best start stopped at the limit{taken} before it converged.")
    if finite.size > 1 and finite.max() - finite.min() > LOSS_SPREAD * abs(finite.min()):
        out.warnings.append(
            f"The starts ended at different losses ({finite.min():.4g} to {finite.max():.4g}): "
            "the loss has several minima or some starts had not converged."
        )
    if finite.size < final.size:
        out.warnings.append(f"{final.size - finite.size} of {final.size} starts ended without a finite loss.")
    if np.isfinite(out.margin) and out.margin < MARGIN:
        out.warnings.append(
            f"The fitted model is close to instability: margin {out.margin:.4f} 1/s, "
            f"slowest time constant {1 / max(out.margin, 1e-12):.0f} s."
        )


def _stage_rows(fit) -> list[dict[str, str]]:
    """One row a stage of the model's fit: where it began and ended, and whether it was kept."""

    def pair(name: str, k: int) -> str:
        ends = [float(fit[f"stage_{key}"][k]) for key in (f"start_{name}", name)]
        return " to ".join(f"{x:.4g}" for x in ends if np.isfinite(x))

    return [
        {
            "stage": str(fit["stage"].values[k]),
            "steps": str(int(fit["stage_steps"][k])),
            "loss": pair("loss", k),
            "validation": pair("validation", k),
            "kept": f"{100 * float(fit['stage_share'][k]):.0f} %" if bool(fit["stage_kept"][k]) else "no",
        }
        for k in range(fit.sizes["stage"])
    ]


def final_losses(fit) -> np.ndarray:
    """Last finite loss of every start: (start,) of one predictor's fit."""
    loss = fit["loss"].transpose("start", "step").values.astype(float)
    return np.array([row[np.isfinite(row)][-1] if np.isfinite(row).any() else np.nan for row in loss])


def _summarise_simulation(out: SubjectSummary, simulation, fit) -> None:
    if "psd" in simulation:
        out.spectra.setdefault("frequency", simulation["frequency"].values)
        out.spectra["simulated"] = _over_regions(simulation["psd"].mean("seed", skipna=True))
    out.data["n_realisations"] = float(
        simulation.attrs.get("n_realisations", simulation.sizes.get("seed", 0))
    )
    out.data["diverged"] = int(simulation.attrs.get("diverged", 0) or 0)
    if "fc_mean" not in simulation or fit is None or "fc_model" not in fit:
        return
    if "model" not in fit["predictor"].values:
        return
    analytic = upper_triangle(fit["fc_model"].sel(predictor="model"))
    for level in simulation["noise_level"].values:
        simulated = upper_triangle(simulation["fc_mean"].sel(noise_level=level))
        out.agreement[float(level)] = finite_correlation(analytic, simulated)


def stored_warnings(ds) -> list[str]:
    """Sentences in the attribute `warnings` of a dataset, a JSON list."""
    try:
        found = json.loads(ds.attrs.get("warnings", "[]"))
    except (TypeError, json.JSONDecodeError):
        return []
    return [str(text) for text in found] if isinstance(found, list) else []


def _over_regions(array) -> np.ndarray:
    """Mean over regions as (frequency,), NaN regions left out."""
    return array.mean("region", skipna=True).values.astype(float)
