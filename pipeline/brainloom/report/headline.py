"""The numbers at the top of the report, and the paragraph that says what they mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainloom.report.names import number, parameter_name, predictor_name, signed
from brainloom.report.summary import bootstrap_interval, compare, scores


@dataclass
class Score:
    """Cohort mean of one predictor on the held-out split.

    Attributes
    ----------
    predictor : str
    values : pandas.Series
        One value a subject.
    mean, low, high : float
        Mean over subjects and its 95 % bootstrap interval (NaN with one subject).
    """

    predictor: str
    values: pd.Series
    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """`0.742 (0.70 to 0.78)`."""
        if not np.isfinite(self.low):
            return number(self.mean)
        return f"{number(self.mean)} ({number(self.low, 2)} to {number(self.high, 2)})"


def held_out_scores(metrics: pd.DataFrame, *, metric: str = "fc_r") -> dict[str, Score]:
    """Cohort means of all predictors on the held-out split, by predictor."""
    table = scores(metrics, metric=metric, split="test")
    out = {}
    for predictor in table.columns:
        values = table[predictor].dropna()
        if len(values):
            out[predictor] = Score(predictor, values, float(values.mean()), *bootstrap_interval(values))
    return out


def best_control(found: dict[str, Score]) -> Score | None:
    """The fitted negative control with the highest mean."""
    controls = [score for name, score in found.items() if name.startswith("control_")]
    return max(controls, key=lambda score: score.mean) if controls else None


def tiles(found: dict[str, Score], *, n_included: int, n_total: int) -> list[dict[str, str]]:
    """Headline numbers as dicts of label, value, note, in the order shown."""
    out = [
        {
            "label": "Subjects",
            "value": str(n_included),
            "note": "all included"
            if n_included == n_total
            else f"of {n_total}; {n_total - n_included} excluded",
            "kind": "count",
        }
    ]
    for predictor in ("model_analytic", "model_simulated", "model_pooled", "ceiling", "group_mean"):
        if predictor in found:
            out.append(_tile(predictor_name(predictor).split(" (own")[0], found[predictor], predictor))
    control = best_control(found)
    if control:
        name = predictor_name(control.predictor).removeprefix("Control: ")
        out.append(_tile("Best control", control, control.predictor, prefix=name))
    return out


def _tile(label: str, score: Score, kind: str, prefix: str = "") -> dict[str, str]:
    interval = (
        f"95 % CI {number(score.low, 2)}\u2013{number(score.high, 2)}"
        if np.isfinite(score.low)
        else "one subject"
    )
    return {
        "label": label,
        "value": number(score.mean),
        "kind": kind,
        "note": f"{prefix} \u00b7 {interval}" if prefix else interval,
    }


def summary_sentences(
    found: dict[str, Score],
    *,
    model: str,
    n_included: int,
    n_total: int,
    regional: list[str],
    n_warned: int,
    identification: tuple[int, int] | None = None,
    seed: int = 0,
    simulated: bool = True,
) -> list[str]:
    """What the numbers say, sentence by sentence; nothing is claimed that they do not show.

    Parameters
    ----------
    found : dict of str -> Score
    model : str
        Name of the model class.
    n_included, n_total : int
        Subjects.
    regional : list of str
        Names of the regional parameters.
    n_warned : int
        Included subjects with at least one warning.
    identification : (int, int), optional
        Held-out FCs predicted best by their own model, and how many there are.
    seed : int
        Seed of the bootstrap of paired differences.
    simulated : bool
        Whether the study has simulations.
    """
    fields = [parameter_name(p)[0].lower() + parameter_name(p)[1:] for p in regional]
    with_fields = f" with {len(fields)} regional field{'s' if len(fields) != 1 else ''} ({', '.join(fields)})"
    subjects = (
        f"{n_included} of {n_total} subjects" if n_included != n_total else _count(n_included, "subject")
    )
    out = [
        f"{subjects} {'were' if n_included != 1 else 'was'} modelled: one {model or 'whole-brain'} model each on the "
        f"subject's own connectome{with_fields if fields else ''}, fitted to the training part of the recording and "
        "scored on the held-out part."
    ]
    own = found.get("model_analytic")
    if own is None:
        return [*out, "No held-out score of the model is available."]
    out.append(f"The model's FC correlates with the held-out FC at {_mean(own)}.")
    if "model_simulated" in found:
        fresh = found["model_simulated"]
        out.append(
            "Simulated with fresh noise, the full equations score "
            f"{number(fresh.mean)} ({signed(fresh.mean - own.mean)})."
        )
    elif not simulated:
        out.append(
            "Nothing was simulated (simulate.seeds is 0): all scores are those of the analytic model, none with fresh noise."
        )
    if "ceiling" in found:
        out.append(
            f"The subject's own training FC, the ceiling for a model fitted to it, scores {number(found['ceiling'].mean)}"
            f"{_share(own.mean, found['ceiling'].mean)}."
        )
    if "group_mean" in found:
        out.append(
            f"The mean FC of the other subjects scores {number(found['group_mean'].mean)}; "
            f"{_comparison(own, found['group_mean'])}."
        )
    control = best_control(found)
    if control is None:
        out.append(
            "No negative control was fitted, so these scores do not show what the connectome contributes."
        )
    else:
        name = predictor_name(control.predictor).removeprefix("Control: ")
        out.append(
            f"The best negative control ({name}) scores {number(control.mean)}; {_comparison(own, control)}"
            f"{_control_verdict(own, control, seed)}."
        )
    if identification and identification[1] > 1:
        hits, n = identification
        out.append(
            f"{hits} of {n} held-out FCs are predicted best by their own subject's model (chance: 1 of {n})."
        )
    if n_warned:
        out.append(
            f"{_count(n_warned, 'subject')} {'carry' if n_warned != 1 else 'carries'} warnings, listed below."
        )
    if n_included < 20:
        out.append(
            f"With {_count(n_included, 'subject')}, differences between subjects or groups are descriptive only."
        )
    return out


def _share(own: float, ceiling: float) -> str:
    if not ceiling > 0 or own > ceiling:
        return f", {number(abs(own - ceiling))} {'below' if own > ceiling else 'above'} the model"
    return f"; the model reaches {100 * own / ceiling:.0f} % of it"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _mean(score: Score) -> str:
    if not np.isfinite(score.low):
        return f"r = {number(score.mean)}"
    return f"r = {number(score.mean)} on average (95 % bootstrap interval {number(score.low)} to {number(score.high)})"


def _comparison(own: Score, other: Score) -> str:
    difference = (own.values - other.values).dropna()
    if difference.empty:
        return "no subject has both"
    return (
        f"the model differs by {signed(difference.mean())} and is better in "
        f"{int((difference > 0).sum())} of {difference.size}"
    )


def _control_verdict(own: Score, control: Score, seed: int) -> str:
    found = compare(own.values, control.values, seed=seed)
    if found is None:
        return ""
    if found.lower <= 0 <= found.upper:
        return (
            " (interval includes zero: these scores give no evidence that the individual connectome matters)"
        )
    if found.upper < 0:
        return " (the control is better: these scores speak against the individual connectome)"
    return f" (interval {signed(found.lower)} to {signed(found.upper)})"
