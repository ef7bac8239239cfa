"""What the report reads: tables, datasets, truth and benchmark files of one study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from brainloom.core.errors import StoreError

_TABLES = {
    "metrics": ("subject", "model", "split", "predictor", "metric", "value", "n"),
    "parameters": (
        "subject",
        "model",
        "parameter",
        "region",
        "estimate",
        "lower",
        "upper",
        "unit",
        "identified",
    ),
    "cohort": ("subject", "included", "reason"),
}
_TRUTH = ("subject", "parameter", "region", "value", "unit")
_TEXT = (
    "subject",
    "model",
    "split",
    "predictor",
    "metric",
    "parameter",
    "region",
    "unit",
    "identified",
    "included",
    "reason",
)


@dataclass
class Results:
    """Everything of one study, datasets as paths.

    Attributes
    ----------
    study : str
    metrics, parameters, cohort : pandas.DataFrame
        The tables of the study.
    datasets : dict of str -> dict of str -> Path
        Subject -> kind -> file.
    group : Path or None
    truth : pandas.DataFrame or None
        Columns subject, parameter, region, value, unit.
    benchmarks : pandas.DataFrame
        One row a job: rule, job, s, max_rss, mean_load.
    params : dict
        The config sections given to the step.
    plan : dict
        From `brainloom.cohort.saved_plan.read_plan`; empty without one.
    """

    study: str
    metrics: pd.DataFrame
    parameters: pd.DataFrame
    cohort: pd.DataFrame
    datasets: dict[str, dict[str, Path]]
    group: Path | None = None
    truth: pd.DataFrame | None = None
    benchmarks: pd.DataFrame = field(default_factory=pd.DataFrame)
    params: dict = field(default_factory=dict)
    plan: dict = field(default_factory=dict)

    @property
    def included(self) -> list[str]:
        """Subjects of the cohort table that are included, in its order."""
        return self.cohort.loc[self.cohort["included"] == "yes", "subject"].tolist()

    @property
    def spectral(self) -> bool:
        """Whether cross-spectra were fitted."""
        return (self.params.get("fit") or {}).get("route") == "spectrum"

    @property
    def simulated(self) -> bool:
        """Whether the study simulates its fitted models."""
        return (self.params.get("simulate") or {}).get("seeds", 1) > 0

    @property
    def model(self) -> str:
        """Name of the fitted model."""
        name = (self.params.get("model") or {}).get("name")
        if name:
            return str(name)
        names = [m for m in self.metrics["model"].unique() if m and m != "nan"]
        return names[0] if names else ""


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Tab-separated table with at least `columns`; text columns stay text ("01" is a label, not a number).

    Raises
    ------
    StoreError
        The file is missing or lacks a column.
    """
    if not path.is_file():
        raise StoreError(f"{path}: file not found; run the workflow up to the step that writes it")
    text = {name: str for name in columns if name in _TEXT}
    table = pd.read_csv(
        path,
        sep="\t",
        dtype=text,
        keep_default_na=False,
        na_values={name: ["", "nan", "NaN", "n/a"] for name in columns if name not in _TEXT},
    )
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise StoreError(f"{path}: column {missing[0]!r} is missing; the table needs {', '.join(columns)}")
    for name in columns:
        if name not in _TEXT:
            table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """metrics.tsv, parameters.tsv and cohort.tsv of a folder."""
    return {name: read_table(Path(folder) / f"{name}.tsv", columns) for name, columns in _TABLES.items()}


def read_truth(path: Path) -> pd.DataFrame:
    """Ground truth of a synthetic cohort: subject, parameter, region ("global" for global ones), value, unit."""
    table = read_table(Path(path), _TRUTH)
    table["region"] = table["region"].replace("", "global")
    return table


def read_benchmarks(folder: Path | None) -> pd.DataFrame:
    """Times and memory of all jobs, from the benchmark files of Snakemake.

    The rule is the file name, or the folder name where a rule has one file a batch.

    Returns
    -------
    pandas.DataFrame
        Columns rule, job, s (wall time), max_rss (MB), mean_load (%); empty without files.
    """
    rows = []
    root = Path(folder) if folder else Path()
    for path in sorted(root.rglob("*")) if folder and root.is_dir() else []:
        if not path.is_file() or path.suffix not in (".tsv", ".txt"):
            continue
        try:
            table = pd.read_csv(path, sep="\t", na_values=["-"])
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
            continue
        if "s" not in table.columns or table.empty:
            continue
        relative = path.relative_to(root).with_suffix("")
        rule = relative.parts[0] if len(relative.parts) > 1 else relative.name
        job = "/".join(relative.parts[1:]) if len(relative.parts) > 1 else ""
        if not job and "." in rule:
            rule, job = rule.split(".", 1)
        row = table.iloc[-1]
        rows.append(
            {"rule": rule, "job": job}
            | {
                name: float(pd.to_numeric(row.get(name), errors="coerce")) if name in row else np.nan
                for name in ("s", "max_rss", "mean_load")
            }
        )
    return pd.DataFrame(rows, columns=["rule", "job", "s", "max_rss", "mean_load"])
