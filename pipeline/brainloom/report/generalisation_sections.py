"""What the report says beyond held-out FC: the share of the attainable, what was not fitted, and FC dynamics."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainloom.report import tables
from brainloom.report.names import number, predictor_name, signed
from brainloom.report.results import Results
from brainloom.report.summary import compare, scores

#: Features and what they are called in a sentence.
FEATURES = {
    "lag1_r": "Lagged covariance (r of lag-1 correlations)",
    "psd_r": "Power spectra (r of log power over the band)",
    "variance_r": "Regional variance (r of log variance over regions)",
}
MODELS = ("model_analytic", "model_simulated", "model_pooled")
NULL = "stationary_train"
BESIDE = ("ceiling", "group_mean", NULL)
#: FC dynamics of a model are as close as another run is if their mean distance is at most this much larger.
FCD_MARGIN = 0.05


def generalisation_section(results: Results) -> dict:
    """
    Parts of the page.

    Returns
    -------
    dict
        ``unfitted``: table and sentences, or None; ``dynamics``: sentences of FC dynamics; ``discriminable``: sentences.
    """
    metrics = results.metrics
    shown = (*MODELS, *BESIDE, "stationary_surrogate")
    part = metrics[(metrics["split"] == "test") & metrics["predictor"].isin(shown)]
    sentences = unfitted_sentences(metrics, fitted_features(results.params))
    table = tables.score_table(part, columns=(*FEATURES, "fcd_ks"))
    return {
        "unfitted": {"table": table, "sentences": sentences} if sentences else None,
        "dynamics": dynamics_sentences(metrics),
        "discriminable": discriminability_sentences(metrics),
    }


def attainable_sentences(metrics: pd.DataFrame) -> list[str]:
    """How far the model is from what the noise of the held-out FC allows."""
    reliability = scores(metrics, metric="fc_reliability", split="test")
    corrected = scores(metrics, metric="fc_r_corrected", split="test")
    if "ceiling" not in reliability or "model_analytic" not in corrected:
        return []
    found = reliability["ceiling"].dropna()
    name = "model_pooled" if "model_pooled" in corrected else "model_analytic"
    more = ""
    if name == "model_pooled":
        more = f" (of the pooled model {number(corrected[name].mean())})"
    return [
        f"The held-out FC is itself noisy: its reliability is {number(found.mean())}, so that a perfect model of the FC that both parts "
        f"share would correlate with it at {number(np.sqrt(found).mean())}. Of this the model reaches "
        f"{number(corrected['model_analytic'].mean())}{more}, the own training FC {number(corrected['ceiling'].mean())}."
    ]


def fitted_features(params: dict) -> dict[str, str]:
    """Features that did enter the fit, and how."""
    fit = params.get("fit") or {}
    if fit.get("route") == "spectrum":
        return dict.fromkeys(FEATURES, "cross-spectra were fitted")
    out = {}
    if (fit.get("objective") or {}).get("lag1"):
        out["lag1_r"] = "fitted: fit.objective.lag1"
    for stage in fit.get("stages") or []:
        weights = stage.get("objective", {}) if isinstance(stage, dict) else {}
        for term, metric in (("lag1", "lag1_r"), ("psd", "psd_r"), ("variance", "variance_r")):
            if weights.get(term):
                out[metric] = "fitted in a simulation stage"
    if "Hopf" in str((params.get("model") or {}).get("name", "")):
        out.setdefault("psd_r", "peak frequencies of the training part are given to the model")
    return out


def unfitted_sentences(metrics: pd.DataFrame, fitted: dict[str, str]) -> list[str]:
    """
    One sentence a feature: every model beside the own training part, the others and the stationary null.

    Parameters
    ----------
    metrics : pandas.DataFrame
    fitted : dict of str to str
        From `fitted_features`.
    """
    out = []
    for metric, text in FEATURES.items():
        table = scores(metrics, metric=metric, split="test")
        models = [name for name in MODELS if name in table]
        if not models or NULL not in table:
            continue
        beside = [
            f"{predictor_name(name)[0].lower()}{predictor_name(name)[1:]} {number(table[name].mean())}"
            for name in BESIDE
            if name in table
        ]
        each = [
            f"{predictor_name(name)} {number(table[name].mean())}, {_verdict(table[name], table[NULL])}"
            for name in models
        ]
        note = f" ({fitted[metric]})" if metric in fitted else ""
        out.append(f"{text}{note}: {'; '.join(each)}. Beside them: {', '.join(beside)}.")
    return out


def _verdict(own: pd.Series, null: pd.Series) -> str:
    found = compare(own, null)
    if found is None:
        difference = float((own - null).mean())
        return f"{signed(difference)} against the stationary null"
    interval = f"{signed(found.mean)}, interval {signed(found.lower)} to {signed(found.upper)}"
    if found.upper < 0:
        return f"below the stationary null ({interval})"
    return (
        f"above the stationary null ({interval})"
        if found.lower > 0
        else f"not told apart from the stationary null ({interval})"
    )


def dynamics_sentences(metrics: pd.DataFrame) -> list[str]:
    """Whether FC dynamics of the simulated model are as close to the held-out part as another run of the data is."""
    ks = scores(metrics, metric="fcd_ks", split="test")
    out = []
    if {"model_simulated", "ceiling"} <= set(ks.columns):
        both = ks[["model_simulated", "ceiling"]].dropna()
        model, own = float(both["model_simulated"].mean()), float(both["ceiling"].mean())
        if len(both):
            near = model <= own + FCD_MARGIN
            out.append(
                f"FC dynamics of the simulated model are {number(model)} from those of the held-out part (mean KS distance); those of the "
                f"training part, the run-to-run distance of the data, are {number(own)} from them. The model is "
                + ("within " if near else f"{signed(model - own)} farther, so not within ")
                + f"{FCD_MARGIN:g} of the run-to-run distance."
            )
        if len(both) and "stationary_surrogate" in ks:
            null = float(ks["stationary_surrogate"].mean())
            known = (
                f"Stationary surrogates of the training part, which know as much as the model, are {number(ks[NULL].mean())} from it, "
                f"those of the held-out part itself {number(null)}. "
                if NULL in ks
                else f"Stationary surrogates of the held-out part itself are {number(null)} from it. "
            )
            verdict = (
                "The simulated model is closer than all of them."
                if model < min(null, float(ks[NULL].mean()) if NULL in ks else null)
                else "As a stationary linear process comes as close, the distance is no evidence of dynamics beyond one."
            )
            out.append(known + verdict)
    values = scores(metrics, metric="metastability", split="test")
    if {"model_simulated", "empirical"} <= set(values.columns):
        beside = (
            f", of its stationary surrogates {number(values['stationary_surrogate'].mean())}"
            if "stationary_surrogate" in values
            else ""
        )
        out.append(
            f"Metastability of the simulated model is {number(values['model_simulated'].mean())}, of the held-out part "
            f"{number(values['empirical'].mean())}{beside}."
        )
    return out


def discriminability_sentences(metrics: pd.DataFrame) -> list[str]:
    """How often both measurements of a subject are closer than those of two."""
    cohort = metrics[(metrics["subject"] == "group") & (metrics["split"] == "test")]
    value = cohort.set_index(["predictor", "metric"])["value"]
    out = []
    for predictor, metric, text in (
        ("ceiling", "discriminability", "the recorded FC"),
        ("model_interpretation", "discriminability", "the FC of models fitted to each part"),
        ("model_interpretation", "parameter_discriminability", "their parameters"),
    ):
        if (predictor, metric) in value.index:
            p = float(value[predictor, f"{metric}_p"])
            out.append(f"{text} {number(float(value[predictor, metric]))} (p {number(p, 4)})")
    if not out:
        return []
    return [
        "Discriminability, the probability that two parts of one subject are closer than parts of two (chance 0.5), between training "
        f"and held-out part: {', '.join(out)}."
    ]
