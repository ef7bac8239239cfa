"""Recovery and calibration of a cohort: rows of estimates beside the truth, and what they say of each parameter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

COLUMNS = (
    "subject", "replicate", "parameter", "region", "truth", "estimate", "lower", "upper", "identified", "covered", "unit",
)  # fmt: skip
SUMMARY_COLUMNS = (
    "parameter", "values", "n", "r_within", "r_across", "bias_percent", "bias_sd", "spread_sd", "coverage",
    "coverage_lower", "coverage_upper", "nominal",
)  # fmt: skip

# Regional parameters of which FC tells the pattern, not the scale.
SCALE_FREE = ("noise",)


def recovery_rows(ds: xr.Dataset) -> pd.DataFrame:
    """
    Rows of recovery.tsv of one subject.

    Parameters
    ----------
    ds : xarray.Dataset
        As `brainloom.cohort.recovery.recover_subject` makes it, with the attribute ``subject``.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`; one row with region ``global`` for a global parameter, none of replicates that were lost.
    """
    rows = []
    regions = ds["region"].values.astype(str)
    for k in np.flatnonzero(~ds["lost"].values):
        for p, name in enumerate(ds["parameter"].values.astype(str)):
            one = ds.isel(replicate=k, parameter=p)
            places = ["global"] if str(one["scope"].values) == "global" else regions
            part = pd.DataFrame({"region": places})
            for key in ("truth", "estimate", "lower", "upper", "identified"):
                part[key] = one[key].values[: len(places)]
            part["parameter"], part["replicate"] = name, int(k)
            part["unit"] = str(one["unit"].values)
            rows.append(part)
    table = pd.concat(rows, ignore_index=True)
    table["subject"] = str(ds.attrs["subject"])
    inside = (table["lower"] <= table["truth"]) & (table["truth"] <= table["upper"])
    table["covered"] = np.where(inside, "yes", "no")
    return table[list(COLUMNS)]


def summarise(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """
    Recovery, bias and coverage of every parameter.

    Parameters
    ----------
    table : pandas.DataFrame
        `COLUMNS`, all subjects.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        `SUMMARY_COLUMNS`: for each parameter a row of the ``identified`` values and one of ``all``. ``r_within``: mean
        over recordings of the correlation over regions; ``r_across``: correlation over recordings, of regional
        parameters the mean over regions. ``noise`` has a row of its ``pattern``: all values, after the geometric mean of
        estimate over truth was taken out of each recording, because FC does not tell the scale. Bias: mean log of estimate over truth, in percent, and in units of each
        value's standard error; ``spread_sd`` is the standard deviation of these, 1 if the errors are as large as
        stated. ``coverage`` with the 95 % interval of Clopper and Pearson (1934, Biometrika 26:404), which takes
        values as independent.
    """
    rows = []
    for name in dict.fromkeys(table["parameter"]):
        every = table[table["parameter"] == name]
        for values, part in (("identified", every[every["identified"] == "yes"]), ("all", every)):
            rows.append({"parameter": name, "values": values, **_scores(part, level), "nominal": level})
        if name in SCALE_FREE and (every["region"] != "global").all():
            scores = _scores(_without_scale(every), level)
            rows.append({"parameter": name, "values": "pattern", **scores, "nominal": level})
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _without_scale(part: pd.DataFrame) -> pd.DataFrame:
    """Estimates and intervals divided by the geometric mean of estimate over truth of their recording."""
    ratio = np.log(part["estimate"] / part["truth"])
    common = np.exp(ratio.groupby([part["subject"], part["replicate"]]).transform("mean"))
    found = part.assign(**{name: part[name] / common for name in ("estimate", "lower", "upper")})
    inside = (found["lower"] <= found["truth"]) & (found["truth"] <= found["upper"])
    return found.assign(covered=np.where(inside, "yes", "no"))


def _scores(part: pd.DataFrame, level: float) -> dict[str, float]:
    n = len(part)
    if not n:
        missing = (name for name in SUMMARY_COLUMNS[3:-1])
        return {"n": 0} | dict.fromkeys(missing, np.nan)
    error = np.log(part["estimate"] / part["truth"])
    width = np.abs(np.log(part["upper"] / part["lower"])) / (2.0 * scipy.stats.norm.ppf(0.5 + 0.5 * level))
    in_sd = (error / width)[width > 0]
    covered = int((part["covered"] == "yes").sum())
    interval = scipy.stats.binomtest(covered, n).proportion_ci()
    regional = (part["region"] != "global").any()
    return {
        "n": n,
        "r_within": _mean_r(part, ["subject", "replicate"]) if regional else np.nan,
        "r_across": _mean_r(part, ["region"]),
        "bias_percent": 100.0 * float(np.expm1(error.mean())),
        "bias_sd": float(in_sd.mean()),
        "spread_sd": float(in_sd.std(ddof=1)) if len(in_sd) > 1 else np.nan,
        "coverage": covered / n,
        "coverage_lower": float(interval.low),
        "coverage_upper": float(interval.high),
    }


def _mean_r(part: pd.DataFrame, by: Sequence[str]) -> float:
    """Mean over groups of the correlation of truth and estimate; NaN where no group has three different truths."""
    found = []
    for _, rows in part.groupby(list(by)):
        x, y = (rows[name].to_numpy(float) for name in ("truth", "estimate"))
        if len(np.unique(x)) >= 3 and np.ptp(y) > 0:
            found.append(np.corrcoef(x, y)[0, 1])
    return float(np.mean(found)) if found else float("nan")
