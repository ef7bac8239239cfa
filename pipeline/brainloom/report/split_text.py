"""The split of recordings as the report and provenance.json tell it: lengths, pieces, gaps, frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from brainloom.core.modalities import ELECTRIC

_HOW = {
    "halves": "halves of each run",
    "runs": "whole runs",
    "sessions": "sessions",
    "blocks": "alternating blocks of each run",
}


def _records(attrs: Mapping[str, Any]) -> dict[str, dict]:
    """What was written down of each modality of a signal dataset, BOLD first; empty for one that does not say."""
    texts = {"bold": attrs.get("split_frames")} | {
        name: attrs.get(f"{name}_split_frames") for name in ELECTRIC
    }
    return {name: json.loads(text) for name, text in texts.items() if text}


def split_facts(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Lengths of the parts of a recording (min), their pieces, and gaps (s); empty if the dataset does not say.

    Parameters
    ----------
    attrs : mapping
        Of a signal dataset; with several modalities the first counts.
    """
    found = next(iter(_records(attrs).values()), None)
    if found is None:
        return {}
    minutes = {
        part: sum(last + 1 - first for _, first, last in pieces) * found["seconds"] / 60
        for part, pieces in found["parts"].items()
    }
    count = {part: len(pieces) for part, pieces in found["parts"].items()}
    gaps = [run["gap"] * found["seconds"] for run in found["runs"]]
    return {"how": found["how"], "minutes": minutes, "pieces": count, "gaps": gaps}


def split_sentence(facts: Iterable[Mapping[str, Any]]) -> str:
    """One line for one subject or for several, with ranges where they differ; empty if nothing is known.

    Examples
    --------
    >>> part = {"train": 7.2, "validation": 2.4, "test": 7.2}
    >>> split_sentence([{"how": "halves", "minutes": part, "pieces": dict.fromkeys(part, 1), "gaps": [0.0]}])
    'Cut by halves of each run: training 7.2 min in 1 piece (2.4 min of it validation), held out 7.2 min in 1 piece, no gap.'
    """
    known = [one for one in facts if one]
    if not known:
        return ""

    def length(part: str) -> str:
        return f"{_span([one['minutes'][part] for one in known])} min"

    def pieces(part: str) -> str:
        counts = [one["pieces"][part] for one in known]
        return f"in {_span(counts)} piece{'s' if max(counts) > 1 else ''}"

    how = known[0]["how"]
    text = (
        f"Cut by {_HOW[how]}: training {length('train')} {pieces('train')} ({length('validation')} of it validation), held out "
        f"{length('test')} {pieces('test')}"
    )
    if how in ("halves", "blocks"):
        gaps = [gap for one in known for gap in one["gaps"]]
        text += f", gaps of {_span(gaps)} s" if max(gaps) > 0 else ", no gap"
    return text + "."


def _span(values: list[float]) -> str:
    low, high = (f"{round(value, 1):g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def split_table(attrs: Mapping[str, Mapping[str, Any]], signal: Mapping[str, Any]) -> dict[str, Any]:
    """The splits of a study for provenance.json.

    Parameters
    ----------
    attrs : mapping of subject -> attributes of its signal dataset
    signal : mapping
        Section `signal` of the configuration.

    Returns
    -------
    dict
        ``settings``; ``sha256`` of the table; ``subjects``, a row a subject and modality with the gap in frames and, for
        every part, ``run first-last`` of its pieces, frames from 0.
    """
    rows = []
    for subject, one in attrs.items():
        for modality, found in _records(one).items():
            parts = {
                part: "; ".join(f"{run} {first}-{last}" for run, first, last in pieces)
                for part, pieces in found["parts"].items()
            }
            gaps = "; ".join(f"{run['run']} {run['gap']}" for run in found["runs"])
            rows.append({"subject": subject, "modality": modality, "gap": gaps} | parts)
    text = json.dumps(rows, sort_keys=True)
    return {
        "settings": {key: signal[key] for key in ("splits", "block", "gap") if key in signal},
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "subjects": rows,
    }
