"""What reads all subjects: cohort scores and comparisons, and the tables of the study."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainloom.core.errors import StoreError
from brainloom.core.modalities import ELECTRIC
from brainloom.core.provenance import file_sha256, provenance_attrs
from brainloom.core.runtime import device_kind
from brainloom.steps._common import KIND_OF_LIST, guarded, parse, read_kind
from brainloom.steps._group_parts import with_effects, with_pool
from brainloom.steps._lists import written_out
from brainloom.steps._tables import write_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from brainloom.analysis.cohort_scores import SubjectFC
    from brainloom.analysis.generalisation import SubjectFeatures

# Without simulation where none was run.
LISTS = ("connectome", "signal", "fit", "posterior", "simulation", "metrics")
# Only some studies have these, and a failure of them excludes nobody.
OPTIONAL = ("pooled", "reliability")
PARAMETER_COLUMNS = (
    "subject", "model", "parameter", "region", "estimate", "lower", "upper", "unit", "identified",
)  # fmt: skip
COHORT_COLUMNS = ("subject", "included", "reason")


@dataclass
class Cohort:
    """Collected from the datasets of all subjects, one after the other, so that memory holds matrices only."""

    subjects: list[SubjectFC] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    electric: dict[str, xr.Dataset] = field(default_factory=dict)
    curves: dict[str, xr.Dataset] = field(default_factory=dict)
    unpooled: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, SubjectFeatures] = field(default_factory=dict)
    regions: list[str] = field(default_factory=list)
    metrics: list[pd.DataFrame] = field(default_factory=list)
    parameters: list[tuple] = field(default_factory=list)
    motion: dict[str, tuple[float, str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


def read_index(path: Path) -> list[tuple[str, str, str]]:
    """
    Read the table of `brainloom.steps.index_cohort`.

    Returns
    -------
    list of (str, str, str)
        Label, ``yes`` or ``no``, reason.

    Raises
    ------
    StoreError
        The table is missing or has other columns.
    """
    if not path.is_file():
        raise StoreError(f"{path}: file not found; run the step index_cohort first")
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    if tuple(header.split("\t")) != COHORT_COLUMNS:
        raise StoreError(f"{path}: columns are {header!r}; they must be {', '.join(COHORT_COLUMNS)}")
    rows = [[*line.split("\t"), "", ""][:3] for line in lines if line.strip()]
    return [(subject, included, reason) for subject, included, reason in rows]


def subject_fc(subject: str, inputs: dict[str, xr.Dataset]) -> SubjectFC:
    """
    Keep of one subject what the cohort scores need.

    Parameters
    ----------
    subject : str
        Label.
    inputs : dict of str to xarray.Dataset
        ``signal, fit``, and ``simulation`` and ``pooled`` if there are simulations and pooled fits.
    """
    import numpy as np

    from brainloom.analysis.cohort_scores import SubjectFC
    from brainloom.analysis.subject_scores import mean_simulated_fc
    from brainloom.store import is_failed

    signal = inputs["signal"]

    def of(split: str) -> np.ndarray:
        return signal["fc"].sel(split=split).values.astype(np.float64)

    train = of("train")
    predictions = {"ceiling": train}
    if "fc_model" in inputs["fit"]:
        model = inputs["fit"]["fc_model"].sel(predictor="model").values.astype(np.float64)
        predictions = {"model_analytic": model} | predictions
    if "fc" in inputs.get("simulation", ()):
        predictions["model_simulated"] = mean_simulated_fc(inputs["simulation"])
    if "pooled" in inputs and not is_failed(inputs["pooled"]):
        predictions["model_pooled"] = inputs["pooled"]["fc_model"].values.astype(np.float64)
    order = ("model_analytic", "model_simulated", "model_pooled", "ceiling")

    return SubjectFC(
        subject=subject,
        train=train,
        test=of("test"),
        early=signal["fc_early"].values.astype(np.float64),
        validation=of("validation"),
        predictions={name: predictions[name] for name in order if name in predictions},
        n_frames=(
            float(signal["n_frames"].sel(split="train")),
            float(signal["n_frames"].sel(split="test")),
        ),
        dof=(float(signal["effective_dof_early"]), float(signal["effective_dof"].sel(split="train"))),
    )


def electric_part(signal: xr.Dataset) -> xr.Dataset:
    """Keep of a signal dataset what scores of EEG and MEG need."""
    keys = ("psd", "envelope_fc", "peak_frequency")
    names = [f"{name}_{key}" for name in ELECTRIC for key in keys if f"{name}_{key}" in signal]
    return signal[names]


def parameter_rows(subject: str, model: str, fit: xr.Dataset, posterior: xr.Dataset) -> list[tuple]:
    """
    Rows of parameters.tsv of one subject.

    Parameters
    ----------
    subject, model : str
        Label, and name of the model.
    fit, posterior : xarray.Dataset
        Scope and unit of each parameter come from the fit, the rest from the posterior.

    Returns
    -------
    list of tuple
        In the order of `PARAMETER_COLUMNS`; one row with region ``global`` for a global parameter.
    """
    rows = []
    scope = dict(zip(fit["parameter"].values.astype(str), fit["scope"].values.astype(str), strict=True))
    unit = dict(zip(fit["parameter"].values.astype(str), fit["unit"].values.astype(str), strict=True))
    regions = posterior["region"].values.astype(str)
    for name in posterior["parameter"].values.astype(str):
        chosen = posterior.sel(parameter=name)
        columns = [chosen[key].values for key in ("estimate", "lower", "upper", "identified")]
        places = ["global"] if scope[name] == "global" else regions
        for region, estimate, lower, upper, identified in zip(places, *columns, strict=False):
            numbers = (_text(estimate), _text(lower), _text(upper))
            rows.append((subject, model, str(name), str(region), *numbers, unit[name], str(identified)))
    return rows


def collect(args: argparse.Namespace) -> Cohort:
    """
    Read the datasets of all subjects.

    Parameters
    ----------
    args : argparse.Namespace
        Lists of files, one a subject, in the same order.

    Raises
    ------
    StoreError
        A file is damaged, belongs to another subject, or has other regions than the first subject.
    """
    from brainloom.analysis.generalisation import subject_features
    from brainloom.analysis.metric_rows import averaged_rows
    from brainloom.store import is_failed

    cohort = Cohort()
    model = args.params["model"]["name"]
    for index in range(len(args.metrics)):
        inputs = {
            name: read_kind(getattr(args, name)[index], KIND_OF_LIST[name])
            for name in LISTS
            if name in args.lists
        }
        labels = {str(ds.attrs["subject"]) for ds in inputs.values()}
        if len(labels) != 1:
            raise StoreError(
                f"{args.metrics[index]} and its companions belong to different subjects "
                f"({', '.join(sorted(labels))}); give each list in one order"
            )
        (subject,) = labels
        cohort.hashes |= {f"{subject}/{name}": str(ds.attrs["content_hash"]) for name, ds in inputs.items()}
        reasons = [str(ds.attrs["reason"]) for ds in inputs.values() if is_failed(ds)]
        if reasons:
            cohort.failures[subject] = reasons[0]
            continue
        for name in (name for name in OPTIONAL if name in args.lists):
            path = getattr(args, name)[index]
            inputs[name] = read_kind(path, name)
            cohort.hashes[f"{subject}/{name}"] = str(inputs[name].attrs["content_hash"])
            if str(inputs[name].attrs["subject"]) != subject:
                raise StoreError(f"{path} is not of sub-{subject}; give each list in one order")
        if "pooled" in inputs and is_failed(inputs["pooled"]):
            cohort.unpooled[subject] = str(inputs["pooled"].attrs["reason"])
        if "reliability" in inputs:
            cohort.curves[subject] = inputs["reliability"]
        regions = [str(label) for label in inputs["signal"]["region"].values]
        cohort.regions = cohort.regions or regions
        if regions != cohort.regions:
            raise StoreError(
                f"{args.signal[index]}: sub-{subject} has other regions than sub-{cohort.used[0]}; "
                "use one atlas for all subjects of a study"
            )
        cohort.used.append(subject)
        if "dvars_median" in inputs["signal"].attrs:
            found = inputs["signal"].attrs
            cohort.motion[subject] = float(found["dvars_median"]), str(found["dvars_unit"])
        if "fc" in inputs["signal"]:
            cohort.subjects.append(subject_fc(subject, inputs))
            cohort.recorded[subject] = subject_features(inputs["signal"], inputs.get("pooled"))
        cohort.electric[subject] = electric_part(inputs["signal"])
        cohort.metrics.append(averaged_rows(inputs["metrics"]))
        cohort.parameters += parameter_rows(subject, model, inputs["fit"], inputs["posterior"])
    return cohort


def cohort_rows(index: Sequence[tuple[str, str, str]], cohort: Cohort) -> list[tuple[str, str, str]]:
    """
    Rows of cohort.tsv: the index, with the subjects that failed later.

    Parameters
    ----------
    index : sequence of (str, str, str)
        From `read_index`.
    cohort : Cohort
        From `collect`.
    """
    used = cohort.used
    indexed = {subject for subject, _, _ in index}
    rows = []
    for subject, included, reason in index:
        if subject in used:
            rows.append((subject, "yes", ""))
        elif subject in cohort.failures:
            rows.append((subject, "no", cohort.failures[subject]))
        else:
            rows.append(
                (subject, "no", reason if included == "no" else "no datasets of this subject were given")
            )
    rows += [(subject, "yes", "") for subject in used if subject not in indexed]
    rows += [(s, "no", reason) for s, reason in cohort.failures.items() if s not in indexed]
    return rows


def _text(value: Any) -> str:
    return f"{float(value):.10g}"


def group_study(args: argparse.Namespace) -> None:
    """
    Make the group dataset and the tables metrics.tsv, parameters.tsv, cohort.tsv, and effects.tsv if tests are asked for.

    Parameters
    ----------
    args : argparse.Namespace
        From the command line.
    """
    import pandas as pd

    from brainloom.analysis.attenuation import with_corrected
    from brainloom.analysis.cohort_scores import score_cohort
    from brainloom.analysis.generalisation import generalisation_rows
    from brainloom.analysis.group_effects import COLUMNS as EFFECT_COLUMNS
    from brainloom.analysis.meeg_scores import group_mean_scores
    from brainloom.analysis.metric_rows import COLUMNS
    from brainloom.analysis.reliability_dataset import reliability_part
    from brainloom.store import write_dataset

    params = args.params
    index = read_index(args.index)
    cohort = collect(args)
    order = {subject: place for place, (subject, _, _) in enumerate(index)}
    warnings: list[str] = []
    model = params["model"]["name"]
    means = [
        (subject, model, split, "group_mean", metric, value, 1)
        for subject, split, metric, value in group_mean_scores(cohort.electric)
    ]
    rest = [pd.DataFrame(means, columns=list(COLUMNS))] if means else []
    more = generalisation_rows(cohort.recorded, model)
    rest += [more] if len(more) else []
    table = pd.concat([pd.DataFrame(columns=list(COLUMNS)), *cohort.metrics, *rest], ignore_index=True)
    table, ds = score_cohort(
        cohort.subjects,
        table.astype({"value": float, "n": int}),
        model,
        mixture=params["group"]["mixture"],
        seed=params["seed"],
        warn=warnings.append if "bold" in params.get("modality", ["bold"]) else lambda text: None,
    )
    if cohort.curves:
        held_out = {one.subject: one.test for one in cohort.subjects}
        scored, found, reason = reliability_part(cohort.curves, held_out, model, params["seed"])
        table = pd.concat([table, pd.DataFrame(scored, columns=list(COLUMNS))], ignore_index=True)
        ds = ds.merge(found, combine_attrs="no_conflicts")
        warnings += [reason] if reason else []
    table, unreliable = with_corrected(table, {one.subject: one.n_frames for one in cohort.subjects})
    warnings += unreliable
    if args.pool is not None:
        ds, reason = with_pool(ds, read_kind(args.pool, "pool"))
        lost = [f"No pooled fit of sub-{subject}: {why}." for subject, why in cohort.unpooled.items()]
        warnings += [f"Pooled fits were not made: {reason}."] if reason else lost
    if params["group"].get("tests"):
        ds, effects = with_effects(ds, cohort.parameters, cohort.motion, args.participants, params)
        write_table(args.tables / "effects.tsv", EFFECT_COLUMNS, effects)
        if args.participants is not None:
            cohort.hashes["participants"] = file_sha256(args.participants)
    else:
        (args.tables / "effects.tsv").unlink(missing_ok=True)
    rows = sorted(cohort_rows(index, cohort), key=lambda row: order.get(row[0], len(order)))
    if cohort.used:
        labels = ("region", cohort.regions, {"long_name": "region"})
        ds = ds.assign_coords(region=labels, region_to=("region_to", *labels[1:]))
    for name, cells in zip(COHORT_COLUMNS, zip(*rows, strict=True), strict=bool(rows)):
        ds = ds.assign(
            {f"cohort_{name}": ("cohort_row", list(cells), {"long_name": f"{name} of cohort.tsv"})}
        )
    ds = ds.assign_attrs(
        kind="group",
        subject="group",
        study=str(params["study"]),
        status="ok",
        reason="",
        warnings=json.dumps(warnings),
        **provenance_attrs(
            "group",
            params,
            cohort.hashes,
            seed=params["seed"],
            precision=params["precision"],
            device=device_kind(),
        ),
    )
    write_dataset(args.output, ds)
    lines = [
        (*(str(row[name]) for name in COLUMNS[:5]), _text(row["value"]), str(row["n"]))
        for row in table.to_dict("records")
    ]
    write_table(args.tables / "metrics.tsv", COLUMNS, lines)
    write_table(args.tables / "parameters.tsv", PARAMETER_COLUMNS, cohort.parameters)
    write_table(args.tables / "cohort.tsv", COHORT_COLUMNS, rows)
    for subject, included, reason in rows:
        print(f"group sub-{subject}: {'ok' if included == 'yes' else f'excluded: {reason}'}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--index F --connectome F.. --signal F.. --fit F.. --posterior F.. [--simulation F..] --metrics F..
        [--reliability F..] [--pooled F.. --pool pool.zarr.zip] [--participants participants.tsv] --output group.zarr.zip --tables DIR
        --params JSON``, with ``--each`` as in `brainloom.steps._lists`.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    given = written_out(sys.argv[1:] if argv is None else argv)
    lists = (
        *(name for name in LISTS if name != "simulation" or "--simulation" in given),
        *(name for name in OPTIONAL if f"--{name}" in given),
    )
    args = parse(
        "group",
        lists=lists,
        singles=["index", "output", "tables"],
        optional=["pool", "participants"],
        argv=given,
    )
    return guarded(lambda: group_study(args))


if __name__ == "__main__":
    sys.exit(main())
