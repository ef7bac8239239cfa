"""The page of a recovery: truth against estimate, and whether intervals hold the truth as often as they say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from brainloom.report.figure import draw
from brainloom.report.names import number, parameter_name
from brainloom.report.parameter_figures import truth_figure
from brainloom.report.style import figure_style

# Points of more recordings make the file too large to open comfortably; tables have all.
MAX_RECORDINGS = 60
_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="brainloom {{ version }}">
<title>{{ study }} – recovery</title>
<link rel="icon" href="data:,">
<style>
{{ css }}
</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents">
<div class="brand">brainloom<small>study {{ study }}</small></div>
<ul><li><a href="#estimates">Truth against estimate</a></li><li><a href="#coverage">Coverage and bias</a></li></ul>
</nav>
<main>
<header><h1>Recovery: {{ study }}</h1><p>{{ subtitle }}</p></header>
<section id="estimates">
<h2>Truth against estimate</h2>
{% for text in sentences %}<p>{{ text }}</p>{% endfor %}
<figure class="wide" id="fig-{{ figure.name }}"><div class="canvas">{{ figure.svg }}</div>
<figcaption>{{ figure.caption }}</figcaption></figure>
</section>
<section id="coverage">
<h2>Coverage and bias</h2>
<div class="scroll"><table>
<thead><tr><th>Parameter</th><th>Values</th><th class="num">n</th><th class="num">r within recordings</th>
<th class="num">r across recordings</th><th class="num">Bias (%)</th><th class="num">Bias (se)</th>
<th class="num">Spread (se)</th><th class="num">Coverage (%)</th><th class="num">nominal</th></tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row.text %}<td class="keep">{{ cell }}</td>{% endfor %}{% for cell in row.cells %}<td class="num">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="quiet">Values: those that the simulated recording identifies, and all; pattern: all, with the mean factor over regions taken
out of each recording, as FC does not tell the scale of the noise. Bias: mean logarithm of estimate over truth, in percent
and in standard errors of the estimate. Spread: standard deviation of the errors in standard errors, 1 if they are as large as
stated. Coverage: share of intervals that hold the truth, with its 95 % binomial interval, which takes regions of a recording as
independent and is too narrow for that.</p>
{% if excluded %}<h3>Left out</h3><ul>{% for subject, reason in excluded %}<li>{{ subject }}: {{ reason }}</li>{% endfor %}</ul>{% endif %}
</section>
<footer>Made by brainloom {{ version }}. This file is complete in itself and needs no network.</footer>
</main>
</div>
</body>
</html>
"""


def write_page(
    output: Path,
    study: str,
    table: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    fc_r: Sequence[float],
    fc_r_recording: Sequence[float],
    lost: int,
    excluded: Mapping[str, str],
) -> None:
    """
    Write the page, whole or not at all.

    Parameters
    ----------
    output : pathlib.Path
    study : str
    table, summary : pandas.DataFrame
        From `brainloom.analysis.recovery_scores`.
    fc_r, fc_r_recording : sequence of float
        Correlation with the FC of the true model, one value a recording: of the refitted model's FC, and of the
        recording's own.
    lost : int
        Simulated recordings that diverged or could not be fitted.
    excluded : mapping of str to str
        Subjects that were left out, and why.
    """
    import jinja2
    from markupsafe import Markup

    from brainloom import __version__

    recordings = table["subject"] + "/" + table["replicate"].astype(str)
    shown = list(dict.fromkeys(recordings))[:MAX_RECORDINGS]
    drawn = table.assign(subject=recordings)[recordings.isin(shown).to_numpy()]
    more = (
        "" if recordings.nunique() <= len(shown) else f" The first {len(shown)} recordings; tables have all."
    )
    with figure_style():
        figure = draw(
            truth_figure,
            drawn.drop(columns="truth"),
            drawn.rename(columns={"truth": "value"}),
            name="recovery",
            title="",
            caption="One dot a simulated recording, or a region of one; bars: intervals; dashed: equality, for regions "
            "drawn through the mean." + more,
            alt="Truth against estimate of every fitted parameter.",
        )
    level = float(summary["nominal"].iloc[0])
    context = {
        "study": study,
        "version": __version__,
        "css": Markup(resources.files("brainloom.report").joinpath("style.css").read_text(encoding="utf-8")),
        "subtitle": f"{table['subject'].nunique()} subjects, {recordings.nunique()} simulated recordings"
        + (f", {lost} lost" if lost else ""),
        "sentences": [
            "Recordings were simulated by the full stochastic model at each subject's fit, with the subject's own design, "
            "and fitted with the same settings. What is found here holds if the model is true; it is no test of the model.",
            f"FC of the refitted model correlates with that of the true model with r = {number(np.mean(fc_r))} (mean; lowest "
            f"{number(np.min(fc_r))}), the simulated training FC itself with {number(np.mean(fc_r_recording))}.",
        ],
        "figure": figure,
        "rows": [_row(row, level) for row in summary.to_dict("records")],
        "excluded": list(excluded.items()),
    }
    text = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    temporary.write_text(text.from_string(_TEMPLATE).render(context), encoding="utf-8")
    os.replace(temporary, output)


def _row(row: dict, level: float) -> dict:
    ends = [number(100 * row[f"coverage_{end}"], 0) for end in ("lower", "upper")]
    share = number(100 * row["coverage"], 0)
    return {
        "text": [parameter_name(row["parameter"]), row["values"]],
        "cells": [
            str(row["n"]),
            *(number(row[name], 2) for name in ("r_within", "r_across")),
            number(row["bias_percent"], 1),
            *(number(row[name], 2) for name in ("bias_sd", "spread_sd")),
            f"{share} ({ends[0]}\u2013{ends[1]})" if row["n"] else share,
            number(100 * level, 0),
        ],
    }
