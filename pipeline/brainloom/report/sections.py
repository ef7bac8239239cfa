"""The cohort sections of the report: what the template needs of all subjects together."""

from __future__ import annotations

import numpy as np

from brainloom.report import cohort_figures, parameter_figures, score_figures, tables
from brainloom.report.figure import Figure, draw
from brainloom.report.generalisation_sections import attainable_sentences
from brainloom.report.headline import held_out_scores, summary_sentences, tiles
from brainloom.report.meeg_sections import electric_modalities, meeg_sentences, meeg_tiles
from brainloom.report.names import number, parameter_name, predictor_colour, predictor_name
from brainloom.report.results import Results
from brainloom.report.split_text import split_sentence
from brainloom.report.summary import GroupSummary, SubjectSummary, drawn_text


def headline_section(results: Results, usable: list[SubjectSummary], group: GroupSummary) -> dict:
    """Tiles and summary paragraph."""
    found = held_out_scores(results.metrics)
    n_total = len(results.cohort)
    shown = tiles(found, n_included=len(results.included), n_total=n_total) + meeg_tiles(results)
    for tile in shown:
        tile["colour"] = "var(--ink)" if tile["kind"] == "count" else predictor_colour(tile["kind"])
    _, regional = parameter_figures.split_scope(results.parameters)
    sentences = summary_sentences(
        found,
        model=results.model,
        n_included=len(results.included),
        n_total=n_total,
        regional=list(dict.fromkeys(regional["parameter"])),
        n_warned=sum(bool(s.warnings) for s in usable),
        identification=(group.identified, len(group.labels)),
        seed=int(results.params["seed"]),
        simulated=results.simulated,
    )
    sentences += attainable_sentences(results.metrics)
    if electric_modalities(results):
        if not found:
            sentences = sentences[:1]
        sentences += meeg_sentences(results)
    bold = "bold" in results.params.get("modality", ["bold"])
    return {"tiles": shown, "sentences": sentences, "has_bold": bold}


def cohort_section(results: Results, summaries, pages) -> dict:
    """Cohort table."""
    rows = tables.cohort_table(results.cohort, summaries, results.metrics)
    paged = {page["subject"]: page["anchor"] for page in pages}
    for row in rows:
        row["anchor"] = paged.get(row["subject"], "")
    n_out = sum(not row["included"] for row in rows)
    text = f"{len(rows)} subject{'s' if len(rows) != 1 else ''} considered, {len(rows) - n_out} included"
    text += f", {n_out} excluded for the reason given." if n_out else "."
    cut = split_sentence(summary.split for summary in summaries.values() if not summary.reason)
    return {"cohort": rows, "cohort_text": f"{text} {cut}".rstrip()}


def fit_section(results: Results, usable: list[SubjectSummary], group: GroupSummary, band, mode_band) -> dict:
    """Scores beside ceiling and controls, identification, FCD, spectra."""
    metrics = results.metrics
    n = len(group.labels)
    some = drawn_text(len(usable))
    figures = {
        "fc": draw(
            score_figures.score_figure,
            metrics,
            metric="fc_r",
            name="score-fc",
            wide=True,
            title="FC correlation under every predictor",
            caption="Dots: subjects, joined by thin lines; diamonds: means with 95 % bootstrap intervals. Shaded: "
            f"interval of the ceiling's mean. {_control_text(results)} An arrow: off the scale, with its mean.{some}",
            alt=_score_alt(metrics, "FC correlation"),
        ),
        "difference": draw(
            score_figures.difference_figure,
            metrics,
            seed=int(results.params["seed"]),
            name="score-difference",
            wide=True,
            title="What the model adds over each reference",
            caption="Paired differences of held-out FC correlation, one dot a subject, mean with 95 % bootstrap "
            f"interval; p: Wilcoxon signed-rank test, not corrected. Right of zero the model is better.{some}",
            alt="Paired differences in held-out FC correlation between the model and every other predictor.",
        ),
        "identification": draw(
            cohort_figures.identification_figure,
            group.fingerprint,
            group.labels,
            name="identification",
            title="Model of one subject against held-out FC of another",
            caption="A frame marks the model that predicts each column best: white if it is the subject's own, "
            "orange if it is another subject's.",
            alt=f"Correlation of {n} models with {n} held-out FCs; {group.identified} of {n} columns have their "
            "maximum on the diagonal.",
        ),
        "fcd": draw(
            score_figures.score_figure,
            metrics,
            metric="fcd_ks",
            name="score-fcd",
            wide=True,
            splits=("train", "test"),
            title="FCD distance (lower is better)",
            caption="Kolmogorov-Smirnov distance between the distributions of FCD values of predictor and recording, "
            "non-overlapping windows only. A stationary linear process already comes close to real recordings: a "
            "distance is evidence for non-stationary dynamics only where it beats the stationary surrogate.",
            alt=_score_alt(metrics, "FCD distance", metric="fcd_ks"),
        ),
        "spectra": draw(
            cohort_figures.spectra_figure,
            usable,
            band=band,
            mode_band=mode_band,
            name="spectra",
            wide=True,
            title="Mean spectra",
            caption="Of unfiltered, z-scored signals, mean over regions; line: mean over subjects, shade: their range. "
            + (
                "The fit sees the cross-spectra of the training part only."
                if results.spectral
                else "Spectra are no part of the analytic loss; HopfStep takes its regional frequencies from the training part."
            ),
            alt="Power spectra of recording, analytic model and simulation, mean over subjects.",
        ),
        "psd": draw(
            score_figures.score_figure,
            metrics,
            metric="psd_r",
            name="score-psd",
            wide=True,
            title="Correlation of spectra",
            caption="Of log power over the frequencies of the band, mean over regions; same marks as above.",
            alt=_score_alt(metrics, "correlation of spectra", metric="psd_r"),
        ),
    }
    return {
        "fit_figures": figures,
        "score_table": tables.score_table(metrics),
        "identification_text": _identification_text(group),
        "group_warnings": group.warnings,
        "stages": [{"subject": one.subject, **row} for one in usable for row in one.stages],
    }


def _identification_text(group: GroupSummary) -> str:
    n = len(group.labels)
    text = (
        f"{group.identified} of {n} held-out FCs are predicted best by their own subject's model (chance 1 of {n}). "
        "Read columns: within one, the entry on the diagonal should be the largest."
    )
    if np.isfinite(group.edge_icc):
        text += (
            " The median edge of the recorded FC has "
            f"an ICC(3,1) of {number(group.edge_icc, 2)} between training and held-out part."
        )
    return text


def _control_text(results: Results) -> str:
    starts = (results.params.get("fit") or {}).get("control_starts")
    often = f", with {starts} start{'s' if starts != 1 else ''} each" if starts else ""
    return f"Controls are fitted like the model{often}; random ones are means over their seeds."


def _score_alt(metrics, what: str, metric: str = "fc_r") -> str:
    found = held_out_scores(metrics, metric=metric)
    means = "; ".join(f"{predictor_name(name)} {number(score.mean)}" for name, score in found.items())
    return f"Held-out {what}, mean over subjects: {means}."


def parameter_section(results: Results, usable) -> dict:
    """Estimates, identifiability, and truth where it is known."""
    parameters, truth = results.parameters, results.truth
    spectral = results.spectral  # there the information is in units of the prior
    figures: dict[str, Figure | bool | None] = {
        "identified": draw(
            parameter_figures.identified_figure,
            parameters,
            name="identified",
            wide=True,
            title="What the data determine",
            caption="Share of all values over subjects and regions.",
            alt="Share of identified, weakly identified and not identified values of every parameter.",
        ),
        "global": draw(
            parameter_figures.global_figure,
            parameters,
            truth,
            name="global",
            wide=True,
            title="Global parameters",
            caption="Estimates and intervals by subject. Dark blue: identified, light blue: weakly, grey: not identified."
            + (" Rust: ground truth." if truth is not None else "")
            + drawn_text(len(usable)),
            alt="Global parameters of every subject with intervals.",
        ),
        "regional": draw(
            parameter_figures.regional_figure,
            parameters,
            name="regional",
            wide=True,
            title="Regional parameters",
            caption="One row a subject, one column a region in the order of the atlas; colours end at the 2nd and 98th "
            "percentile and are logarithmic where values spread widely.",
            alt="Heat maps of regional parameter estimates, subjects by regions.",
        ),
        "eigenvalues": draw(
            cohort_figures.eigenvalue_figure,
            usable,
            prior_sd=1.0 if spectral else (results.params.get("identify") or {}).get("prior_sd"),
            name="eigenvalues",
            wide=True,
            title="Stiff and sloppy directions",
            caption="What the FC of the training part says about combinations of log parameters, one line a subject: "
            f"those on the left are measured, those below the dashed line are left to the prior.{drawn_text(len(usable))}",
            alt="Eigenvalues of the Fisher information, one line a subject.",
        ),
        "truth": draw(
            parameter_figures.truth_figure,
            parameters,
            truth,
            name="truth-estimate",
            wide=True,
            title="Truth against estimate",
            caption="Bars: intervals of global parameters; dashed: equality. For regional parameters every dot is one "
            "region of one subject; axes end at the 1st and 99th percentile.",
            alt=_truth_alt(parameters, truth),
        ),
    }
    figures["any"] = any(figures.values())
    rows = [
        {
            "name": parameter_name(row["parameter"]),
            "scope": row["scope"],
            "across": number(row["across"], 2),
            "within": number(row["within"], 2),
            "lowest": number(row["lowest"], 2),
            "n": row["n"],
            "coverage": f"{100 * row['coverage']:.0f} %" if np.isfinite(row["coverage"]) else "\u2013",
        }
        for row in parameter_figures.recovery_table(parameters, truth)
    ]
    level = (results.params.get("identify") or {}).get("level")
    return {
        "parameter_figures": figures,
        "recovery": rows,
        "truth_given": truth is not None,
        "interval_text": f"{100 * level:.0f} %" if level else "90 %",
        "interval_source": _INTERVAL_SPECTRUM if spectral else _INTERVAL_FC,
        "truth_text": _TRUTH_SPECTRUM if spectral else _TRUTH_TEXT,
    }


_INTERVAL_FC = "the sampling error of FC at its effective number of samples, and the pull of the prior"
_INTERVAL_SPECTRUM = (
    "the curvature of the likelihood of the cross-spectra of all modalities, and of the prior"
)
_TRUTH_SPECTRUM = "The recordings of this cohort were simulated from known parameters."
_TRUTH_TEXT = (
    "The recordings of this cohort were simulated from known parameters. Where a parameter is determined only up to a "
    "common factor (noise amplitude: FC does not depend on its overall scale), compare correlations, not values; "
    "such values may lie off the diagonal and outside their intervals."
)


def _truth_alt(parameters, truth) -> str:
    rows = parameter_figures.recovery_table(parameters, truth)
    parts = [
        f"{parameter_name(r['parameter'])} r {number(r['across'] if r['scope'] == 'global' else r['within'], 2)}"
        for r in rows
    ]
    return "Scatter of true against estimated parameters: " + "; ".join(parts) + "."


def agreement_section(summaries, usable, pages, *, simulated: bool) -> dict:
    """Analytic against simulated FC, and all warnings."""
    paged = {page["subject"]: page["anchor"] for page in pages}
    return {
        "simulated": simulated,
        "agreement_figure": draw(
            cohort_figures.agreement_figure,
            usable,
            name="agreement",
            wide=True,
            title="Agreement",
            caption="Correlation of upper triangles, one dot a subject, at the noise level that is scored and at "
            "higher ones.",
            alt="Correlation of analytic and simulated FC of every subject at every noise level.",
        ),
        "warnings": [
            (s.subject, paged.get(s.subject, ""), text) for s in summaries.values() for text in s.warnings
        ],
    }
