"""Scores that read several subjects: group mean, mixture, identification, reliability, paired comparisons.

The group mean of a subject is the mean (Fisher z) over all *other* subjects of their FC, each from its training and
test part together. Nothing of the subject itself enters, so all data of the others may be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from brainloom.analysis.discriminability import discriminability
from brainloom.analysis.fc import average_correlations, fisher_z, upper
from brainloom.analysis.group_stats import fingerprint_matrix, icc31, identification, paired_comparison
from brainloom.analysis.mixture import choose_weight, leave_one_out_mean, matrix_log, mix, rescale_weight
from brainloom.analysis.scores import fc_scores

#: Predictors that are compared with the others, and what they are compared with if it was scored.
COMPARED = ("model_analytic", "model_simulated", "model_pooled")
REFERENCES = (
    "ceiling",
    "group_mean",
    "mixture",
    "structural",
    "control_other_subject",
    "control_edge_shuffle",
    "control_distance_shuffle",
    "control_rewired",
    "control_uniform",
    "control_distance",
)
_PAIR = ("region", "region_to")

Row = tuple[str, str, str, str, str, float, int]


@dataclass
class SubjectFC:
    """What the cohort needs of one subject; all matrices are (region, region) float64.

    Attributes
    ----------
    subject : str
    train, test, early, validation : FC of the parts of the data
    predictions : dict of predictor -> FC, for identification
    n_frames : frames of the training and of the test part
    dof : effective degrees of freedom of the early and of the whole training part
    """

    subject: str
    train: np.ndarray
    test: np.ndarray
    early: np.ndarray
    validation: np.ndarray
    predictions: dict[str, np.ndarray]
    n_frames: tuple[float, float]
    dof: tuple[float, float]

    @property
    def whole(self) -> np.ndarray:
        """FC of all data, training and test part averaged in Fisher z by frames."""
        return average_correlations([self.train, self.test], self.n_frames)


@dataclass
class CohortScores:
    """Outcome of `score_cohort`: rows as in metrics.tsv, and the variables of the group dataset."""

    rows: list[Row] = field(default_factory=list)
    variables: dict[str, tuple] = field(default_factory=dict)
    coords: dict[str, tuple] = field(default_factory=dict)
    attrs: dict[str, float | str] = field(default_factory=dict)

    def add(self, subject: str, model: str, split: str, predictor: str, values: dict[str, float]) -> None:
        """Add one row a score."""
        for metric, value in values.items():
            self.rows.append((subject, model, split, predictor, metric, float(value), 1))

    def put(self, name: str, dims: tuple[str, ...], values: object, long_name: str, units: str = "1") -> None:
        """Add one variable."""
        self.variables[name] = (dims, np.asarray(values), {"units": units, "long_name": long_name})


def _group_means(out: CohortScores, subjects: Sequence[SubjectFC], model: str) -> list[np.ndarray]:
    means = leave_one_out_mean([s.whole for s in subjects])
    for s, mean in zip(subjects, means, strict=True):
        for split, target in (("train", s.train), ("test", s.test)):
            out.add(s.subject, model, split, "group_mean", fc_scores(mean, target))
    out.put("fc_group", ("subject", *_PAIR), means, "mean FC of all other subjects")
    return means


def _mixtures(
    out: CohortScores, subjects: Sequence[SubjectFC], means: Sequence[np.ndarray], model: str
) -> None:
    """Own training FC mixed with the group mean, the weight chosen without any test data."""
    # While the weight is chosen, the others contribute their training part only: their test parts are scored with it.
    others = leave_one_out_mean([s.train for s in subjects])
    grid = tuple(np.linspace(0.0, 1.0, 21))
    chosen, validation = choose_weight(
        [s.early for s in subjects], others, [s.validation for s in subjects], grid
    )
    weights = [rescale_weight(chosen, *s.dof) for s in subjects]
    mixed = [
        mix(matrix_log(s.train), matrix_log(mean), weight)
        for s, mean, weight in zip(subjects, means, weights, strict=True)
    ]
    for s, prediction in zip(subjects, mixed, strict=True):
        out.add(s.subject, model, "test", "mixture", fc_scores(prediction, s.test))
    out.put("fc_mixture", ("subject", *_PAIR), mixed, "mixture of own training FC and group mean")
    out.put("mixture_weight", ("subject",), weights, "weight of the own training FC")
    out.coords["weight"] = ("weight", np.array(grid), {"units": "1", "long_name": "weight of the own FC"})
    out.put("mixture_validation", ("weight",), validation, "mean fc_r on the validation part")
    out.attrs["mixture_weight_validation"] = chosen


def _pooled(out: CohortScores, subjects: Sequence[SubjectFC], model: str) -> None:
    """Scores of the fits around a prior from the other subjects."""
    for s in subjects:
        if "model_pooled" in s.predictions:
            for split, target in (("train", s.train), ("test", s.test)):
                out.add(
                    s.subject, model, split, "model_pooled", fc_scores(s.predictions["model_pooled"], target)
                )


def _fingerprints(out: CohortScores, subjects: Sequence[SubjectFC], model: str) -> None:
    targets = [s.test for s in subjects]
    predictors = [name for name in subjects[0].predictions if all(name in s.predictions for s in subjects)]
    matrices = []
    for predictor in predictors:
        matrix = fingerprint_matrix([s.predictions[predictor] for s in subjects], targets)
        matrices.append(matrix)
        own, reverse = identification(matrix)
        for index, s in enumerate(subjects):
            values = {"identification": own[index], "identification_reverse": reverse[index]}
            if np.isfinite(matrix[index, index]):
                out.add(s.subject, model, "test", predictor, values)
    labels = np.array([s.subject for s in subjects], dtype=str)
    out.coords["subject_to"] = ("subject_to", labels, {"long_name": "subject whose held-out FC is predicted"})
    out.coords["fingerprint_predictor"] = (
        "fingerprint_predictor",
        np.array(predictors, dtype=str),
        {"long_name": "predictor"},
    )
    out.put(
        "fingerprint",
        ("fingerprint_predictor", "subject", "subject_to"),
        matrices,
        "correlation of the predicted FC of subject with the held-out FC of subject_to",
    )


def _reliability(out: CohortScores, subjects: Sequence[SubjectFC], model: str, seed: int) -> None:
    """Of the data between training and test part: ICC(3,1) of every edge, discriminability of FC."""
    whole = np.array([[fisher_z(upper(s.train)), fisher_z(upper(s.test))] for s in subjects])
    each = icc31(whole)
    edges = np.full(subjects[0].train.shape, np.nan)
    rows, columns = np.triu_indices(len(edges), 1)
    edges[rows, columns] = edges[columns, rows] = each
    out.put("fc_icc", _PAIR, edges, "ICC(3,1) of FC (Fisher z) between training and test part")
    out.add("group", model, "test", "ceiling", {"icc": np.nanmedian(each)})
    whole = whole[np.isfinite(whole).all(axis=(1, 2))]
    if len(whole) >= 2:
        found = discriminability(whole[:, 0], whole[:, 1], seed=seed)
        scores = {"discriminability": found.value, "discriminability_p": found.p_value}
        out.add("group", model, "test", "ceiling", scores)


def _comparisons(out: CohortScores, table: pd.DataFrame, seed: int) -> None:
    """Paired differences of held-out fc_r over the subjects that have both scores."""
    rows = table[(table["split"] == "test") & (table["metric"] == "fc_r") & (table["subject"] != "group")]
    scores = rows.pivot(index="subject", columns="predictor", values="value")
    compared = [name for name in COMPARED if name in scores]
    references = [name for name in REFERENCES if name in scores]
    names = ("mean", "lower", "upper", "p_value", "n_better", "n")
    found = {name: np.full((len(compared), len(references)), np.nan) for name in names}
    for i, a in enumerate(compared):
        for j, b in enumerate(references):
            both = scores[[a, b]].dropna()
            if len(both) < 2:
                continue
            result = paired_comparison(both[a].to_numpy(), both[b].to_numpy(), seed=seed)
            for name in names:
                found[name][i, j] = getattr(result, name)
    if not compared or not references:
        return
    out.coords["compared"] = ("compared", np.array(compared, dtype=str), {"long_name": "predictor"})
    out.coords["reference"] = ("reference", np.array(references, dtype=str), {"long_name": "compared with"})
    text = {
        "mean": "mean difference of held-out fc_r over subjects, compared minus reference",
        "lower": "lower end of its 95% bootstrap interval",
        "upper": "upper end of its 95% bootstrap interval",
        "p_value": "p of the two-sided Wilcoxon signed-rank test",
        "n_better": "subjects with a positive difference",
        "n": "subjects compared",
    }
    for name, values in found.items():
        out.put(f"difference_{name}", ("compared", "reference"), values, text[name])


def group_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Arithmetic mean over subjects of every score, as rows of subject `group`; `n` is that of the subjects' rows."""
    keys = ["model", "split", "predictor", "metric"]
    each = table[table["subject"] != "group"].groupby(keys, sort=False)
    means = each.agg(value=("value", "mean"), n=("n", "max")).reset_index()
    means.insert(0, "subject", "group")
    return means


def score_cohort(
    subjects: Sequence[SubjectFC],
    table: pd.DataFrame,
    model: str,
    *,
    mixture: bool,
    seed: int,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[pd.DataFrame, xr.Dataset]:
    """Everything that needs more than one subject.

    Parameters
    ----------
    subjects : sequence of SubjectFC
        Included subjects, all with the same regions.
    table : pandas.DataFrame
        Rows of metrics.tsv of the subjects.
    model : str
        Name of the model.
    mixture : bool
        Score the mixture of own and group FC.
    seed : int
        Seed of the bootstrap.
    warn : callable
        Gets one sentence for each thing that a small cohort leaves out.

    Returns
    -------
    table : pandas.DataFrame
        The rows given, those of this function, and the means over subjects with subject `group`.
    dataset : xarray.Dataset
        `fc_group(subject, region, region_to)`; `fc_mixture`, `mixture_weight(subject)`, `mixture_validation(weight)`;
        `fingerprint(fingerprint_predictor, subject, subject_to)`; `fc_icc(region, region_to)`;
        `difference_<mean|lower|upper|p_value|n_better|n>(compared, reference)`. With one subject or none, nothing.
    """
    out = CohortScores()
    if len(subjects) >= 2:
        means = _group_means(out, subjects, model)
        if mixture:
            _mixtures(out, subjects, means, model)
        _pooled(out, subjects, model)
        _fingerprints(out, subjects, model)
        _reliability(out, subjects, model, seed)
    else:
        warn(
            "Group mean, mixture, identification, reliability and comparisons need at least two usable subjects."
        )
    table = pd.concat([table, pd.DataFrame(out.rows, columns=list(table.columns))], ignore_index=True)
    if len(subjects) >= 2:
        _comparisons(out, table, seed)
    table = pd.concat([table, group_rows(table)], ignore_index=True)
    order = {s.subject: index for index, s in enumerate(subjects)}
    place = table["subject"].map(lambda label: order.get(label, len(order)))
    table = table.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)
    coords = dict(out.coords)
    if subjects:
        coords["subject"] = (
            "subject",
            np.array([s.subject for s in subjects], dtype=str),
            {"long_name": "subject"},
        )
    ds = xr.Dataset(out.variables, coords=coords, attrs={"n_subjects": len(subjects), **out.attrs})
    return table, ds.assign_attrs(compared_score=json.dumps({"metric": "fc_r", "split": "test"}))
