"""Check every input of every subject before anything is computed; writes which subjects can be used and why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainloom.core.errors import DataError
from brainloom.core.modalities import ELECTRIC
from brainloom.io.checks import check_subject
from brainloom.io.layout import list_subjects, subject_label
from brainloom.steps._common import guarded, parse

Row = tuple[str, str, str]


def index_rows(root: Path, params: dict[str, Any]) -> list[Row]:
    """
    Check the subjects of a study.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the cohort.
    params : dict
        Sections ``input, subjects, connectome, signal`` of the configuration, and those of other modalities.

    Returns
    -------
    list of (str, str, str)
        Label, ``yes`` or ``no``, and the reason (empty for ``yes``), in the order of the study.

    Raises
    ------
    DataError
        The cohort as a whole cannot be read: no folder, no subjects, a broken ``participants.tsv``.
    """
    wanted = params.get("subjects", "all")
    known = list_subjects(root)
    labels = known if wanted == "all" else [subject_label(label) for label in wanted]
    return [(label, *_verdict(root, label, params)) for label in labels]


def _verdict(root: Path, label: str, params: dict[str, Any]) -> tuple[str, str]:
    try:
        check_subject(
            root,
            label,
            params["input"]["atlas"],
            params["input"]["task"],
            signal=params["signal"],
            symmetrise=params["connectome"]["symmetrise"],
            atlas_image=params["input"].get("atlas_image"),
            modality=params.get("modality", ["bold"]),
            electric={name: params[name] for name in ELECTRIC if name in params},
        )
    except DataError as error:
        return "no", " ".join(str(error).split())
    return "yes", ""


def write_index(path: Path, rows: Sequence[Row]) -> None:
    """
    Write the table with the columns ``subject, included, reason``, whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        File to write; its folder is made.
    rows : sequence of (str, str, str)
        See `index_rows`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    lines = ["\t".join(row) for row in [("subject", "included", "reason"), *rows]]
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--input DIR --output index.tsv --params JSON``.

    Returns
    -------
    int
        0 if at least one subject can be used, else 2.
    """
    args = parse("index_cohort", singles=["input", "output"], argv=argv)

    def job() -> None:
        rows = index_rows(args.input, args.params)
        write_index(args.output, rows)
        for label, included, reason in rows:
            print(f"sub-{label}: {'ok' if included == 'yes' else f'excluded: {reason}'}", file=sys.stderr)
        refused = [reason for _, included, reason in rows if included == "no"]
        if len(refused) == len(rows):
            raise DataError(f"no subject of {len(rows)} can be used; the first one: {refused[0]}")

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
