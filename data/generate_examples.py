"""
Copy the example data of the package out of the demo cohort.

Run ``python data/generate_examples.py [FOLDER]`` (default: ``pipeline/brainloom/_data``). The first subject's
connectome is copied as it is, and the start of its first run: an installed package has no ``data/``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from brainloom.io import bids

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "data" / "demo"
ATLAS, TASK, N_FRAMES = "demo40", "rest", 419  # half a run: five minutes


def main(folder: str | Path | None = None) -> None:
    """Write the four files."""
    target = Path(folder) if folder else ROOT / "pipeline" / "brainloom" / "_data"
    target.mkdir(parents=True, exist_ok=True)
    subject = bids.list_subjects(DEMO)[0]
    for measure in ("weight", "length"):
        source = bids.relmat_path(DEMO, subject, atlas=ATLAS, measure=measure)
        (target / f"example_{measure}.tsv").write_bytes(source.read_bytes())
    source = bids.timeseries_path(DEMO, subject, task=TASK, atlas=ATLAS, run=1)
    lines = source.read_bytes().splitlines(keepends=True)
    (target / "example_bold.tsv").write_bytes(b"".join(lines[: N_FRAMES + 1]))
    (target / "example_bold.json").write_bytes(source.with_suffix(".json").read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
