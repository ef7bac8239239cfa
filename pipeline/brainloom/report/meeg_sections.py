"""What the report says of EEG and MEG: one part of the page a modality."""

from __future__ import annotations

from brainloom.core.modalities import ELECTRIC
from brainloom.report import meeg_figures, score_figures, tables
from brainloom.report.figure import draw
from brainloom.report.headline import held_out_scores
from brainloom.report.names import number
from brainloom.report.results import Results
from brainloom.report.summary import SubjectSummary


def electric_modalities(results: Results) -> list[str]:
    """EEG and MEG, as far as the study has them."""
    return [name for name in results.params.get("modality", []) if name in ELECTRIC]


def meeg_section(results: Results, usable: list[SubjectSummary]) -> dict:
    """Cohort figures and scores of every modality: `electric`, a list of parts of the page."""
    return {"electric": [_modality(results, usable, name) for name in electric_modalities(results)]}


def _modality(results: Results, usable: list[SubjectSummary], name: str) -> dict:
    metrics, title = results.metrics, name.upper()
    unit = next((s.electric_units[name] for s in usable if name in s.electric_units), "")
    settings = results.params.get(name) or {}
    low, high = settings.get("band", (0.0, 0.0))
    figures = [
        draw(
            meeg_figures.cohort_spectra_figure,
            usable,
            name,
            unit,
            name=f"{name}-spectra",
            wide=True,
            title=f"{title} spectra",
            caption="Geometric mean over channels; line: mean over subjects, shade: their range. The fit sees the "
            "cross-spectra of the training part only.",
            alt=f"{title} power spectra of recording, analytic model and simulation, mean over subjects.",
        )
    ]
    captions = {
        "psd_r": f"Of log power between {low:g} and {high:g} Hz, mean over channels.",
        "psd_rmse": "Root mean square difference of log10 power over channels and frequencies, in decades; lower is "
        "better.",
        "peak_error": "Of the alpha peak above the aperiodic part, mean over channels that have one in both; lower is "
        "better.",
        "envelope_fc_r": "Of the correlations of orthogonalised amplitude envelopes, upper triangles. Only "
        "simulations have envelopes.",
    }
    for key in tables.ELECTRIC_SCORES:
        metric = f"{name}_{key}"
        figures.append(
            draw(
                score_figures.score_figure,
                metrics,
                metric=metric,
                name=f"score-{name}-{key.replace('_', '-')}",
                wide=True,
                title=tables.metric_head(metric),
                caption=f"{captions[key]} Dots: subjects; diamonds: means with 95 % bootstrap intervals.",
                alt=f"{tables.metric_head(metric)} of all predictors.",
            )
        )
    columns = tuple(f"{name}_{key}" for key in tables.ELECTRIC_SCORES)
    return {
        "name": name,
        "title": title,
        "figures": [one for one in figures if one is not None],
        "score_table": tables.score_table(metrics, columns=columns, training=f"{name}_psd_r"),
    }


def meeg_tiles(results: Results) -> list[dict[str, str]]:
    """Headline numbers: held-out spectrum of each modality under the model and its simulation."""
    out = []
    for name in electric_modalities(results):
        found = held_out_scores(results.metrics, metric=f"{name}_psd_r")
        for predictor, word in (("model_analytic", "analytic"), ("model_simulated", "simulated")):
            if predictor in found:
                score = found[predictor]
                note = f"model ({word}) · {score.text.partition(' ')[2].strip('()')}".rstrip(" ·")
                out.append(
                    {
                        "label": f"{name.upper()} spectrum r",
                        "value": number(score.mean),
                        "note": note,
                        "kind": predictor,
                    }
                )
    return out


def meeg_sentences(results: Results) -> list[str]:
    """What the held-out scores of each modality say."""
    out = []
    for name in electric_modalities(results):
        found = held_out_scores(results.metrics, metric=f"{name}_psd_r")
        if "model_analytic" not in found and "model_simulated" not in found:
            out.append(f"No held-out score of {name.upper()} is available.")
            continue
        own = found.get("model_analytic", found.get("model_simulated"))
        assert own is not None
        text = f"{name.upper()} spectra of the model correlate with the held-out ones at {number(own.mean)}"
        if "ceiling" in found:
            text += f" (own training spectra: {number(found['ceiling'].mean)})"
        out.append(text + ".")
    return out


def subject_meeg(name: str, modality: str, subject: str, signal, fit, simulation) -> dict:
    """Figures of one modality on the page of a subject: `title` and `figures`."""
    title = modality.upper()
    figures = [
        draw(
            meeg_figures.subject_spectra_figure,
            modality,
            signal,
            fit,
            simulation,
            name=f"{name}-{modality}-psd",
            wide=True,
            title=f"{title} spectra",
            caption="Geometric mean over channels, and the channels with most power.",
            alt=f"Subject {subject}: {title} power spectra of recording, analytic model and simulation.",
        ),
        draw(
            meeg_figures.envelope_figure,
            modality,
            signal,
            simulation,
            name=f"{name}-{modality}-envelope",
            wide=True,
            title=f"{title} envelope connectivity",
            caption="Correlation of orthogonalised amplitude envelopes, on one scale.",
            alt=f"Subject {subject}: {title} envelope connectivity of recording and simulation.",
        ),
        draw(
            meeg_figures.lead_field_figure,
            modality,
            signal,
            name=f"{name}-{modality}-lead-field",
            wide=True,
            title=f"{title} lead field",
            caption="Value of each sensor for a dipole of 1 A m in each region, referenced as the recording; the maps "
            "show the regions seen farthest left and right, from above: their sides must be those of the sensors.",
            alt=f"Subject {subject}: {title} lead field as a matrix, and maps of two regions.",
        ),
    ]
    return {"title": title, "figures": [one for one in figures if one is not None]}
