"""What share of the attainable a score of FC is: correlations corrected for the noise of the held-out FC."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from brainloom.analysis.metric_rows import COLUMNS


def held_out_reliability(r: float, n_train: float, n_test: float) -> float:
    r"""
    Reliability of the FC of the held-out part: the share of its variance over pairs that is not noise.

    Both parts are taken as measurements of one FC with independent errors, whose variance falls with the frames:
    reliability :math:`n / (n + k)`. The correlation of the two parts is the geometric mean of their reliabilities
    (Spearman 1904, Am J Psychol 15:72), which gives `k`. For parts of one length the reliability is that correlation.

    Parameters
    ----------
    r : float
        Correlation of the FC of the training part with that of the held-out part.
    n_train, n_test : float
        Frames of the two.

    Returns
    -------
    float
        Between 0 and 1; NaN where `r` is not above 0: then there is nothing that a prediction could be a share of.

    Examples
    --------
    >>> round(held_out_reliability(0.81, 600, 600), 3)
    0.81
    >>> held_out_reliability(0.81, 1000, 200) < 0.81 < held_out_reliability(0.81, 200, 1000)
    True
    """
    if not (0.0 < r <= 1.0 and n_train > 0 and n_test > 0):
        return float("nan")
    total = n_train + n_test
    k = 0.5 * (np.sqrt(total**2 + 4.0 * n_train * n_test * (1.0 / r**2 - 1.0)) - total)
    return float(n_test / (n_test + k))


def with_corrected(
    table: pd.DataFrame, frames: Mapping[str, tuple[float, float]]
) -> tuple[pd.DataFrame, list[str]]:
    """
    Add `fc_r_corrected` beside each held-out `fc_r`, and `fc_reliability` of the held-out FC.

    ``fc_r_corrected = fc_r / sqrt(reliability)`` estimates the correlation of a prediction with the FC that both parts of a
    recording measure. Its upper bound is 1 in the mean: a prediction of one subject can pass it by chance.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of metrics.tsv; `fc_r` of the predictor `ceiling` is the correlation of the two parts.
    frames : mapping of str to (float, float)
        Frames of the training and of the held-out part of each subject.

    Returns
    -------
    table : pandas.DataFrame
        With the new rows, those of a subject together and the cohort's last.
    warnings : list of str
        Who has no reliability.
    """
    keys = list(COLUMNS)
    scored = table[(table["metric"] == "fc_r") & (table["split"] == "test") & (table["subject"] != "group")]
    ceiling = scored[scored["predictor"] == "ceiling"]
    found = ceiling[ceiling["subject"].isin(list(frames))].copy()
    if found.empty:
        return table, []
    found["value"] = [
        held_out_reliability(float(r), *frames[subject])
        for subject, r in zip(found["subject"], found["value"], strict=True)
    ]
    found["metric"] = "fc_reliability"
    lost = found.loc[~np.isfinite(found["value"]), "subject"].tolist()
    found = found[np.isfinite(found["value"])]
    reliability = found.set_index("subject")["value"]
    share = scored[scored["subject"].isin(reliability.index)].copy()
    share["metric"] = "fc_r_corrected"
    share["value"] = share["value"] / np.sqrt(share["subject"].map(reliability))
    each = pd.concat([found, share])[keys]
    by = ["model", "split", "predictor", "metric"]
    means = each.groupby(by, sort=False).agg(value=("value", "mean"), n=("n", "max")).reset_index()
    means.insert(0, "subject", "group")
    out = pd.concat([table, each, means[keys]], ignore_index=True)
    place = {subject: k for k, subject in enumerate(dict.fromkeys(table["subject"])) if subject != "group"}
    order = out["subject"].map(lambda subject: place.get(subject, len(table))).to_numpy()
    out = out.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    warnings = [
        f"No reliability of the held-out FC of sub-{subject}: its two parts do not correlate, so no share of the attainable is given."
        for subject in lost
    ]
    return out, warnings
