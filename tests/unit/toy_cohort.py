"""A cohort of a few regions and frames, for tests of what surrounds the computing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainloom.core.config import validate_config
from brainloom.io import bids

LABELS = ["V1_L", "V1_R", "M1_L", "M1_R"]


def write_cohort(root: Path, subjects: Sequence[str], *, repetition_time: float = 0.72) -> None:
    """Write good subjects below `root`, and make them the participants."""
    for subject in subjects:
        rng = np.random.default_rng(int(subject))
        half = np.triu(rng.uniform(0.1, 1, (4, 4)), 1)
        for measure in ("weight", "length"):
            bids.write_relmat(bids.relmat_path(root, subject, atlas="four", measure=measure), half + half.T)
        run = bids.timeseries_path(root, subject, task="rest", atlas="four")
        bids.write_timeseries(run, rng.normal(size=(400, 4)), LABELS, repetition_time)
    bids.write_atlas(bids.atlas_path(root, "four"), LABELS)
    bids.write_participants(root, subjects)
    bids.write_description(root, name="toy")


def toy_config(**changes: object) -> dict:
    """The validated configuration of a study of ``cohort/`` in the working directory."""
    return validate_config({"study": "toy", "input": {"path": "cohort", "atlas": "four"}} | changes)
