"""The tables of a BIDS derivative cohort in one place: where they are, readers and writers."""

from __future__ import annotations

from brainloom.io.layout import (
    atlas_path,
    duplicate_subjects,
    input_problem,
    list_subjects,
    missing_files,
    relmat_path,
    sidecars,
    subject_files,
    subject_label,
    timeseries_path,
)
from brainloom.io.reading import (
    Atlas,
    read_atlas,
    read_relmat,
    read_repetition_time,
    read_sidecar,
    read_timeseries,
)
from brainloom.io.writing import (
    write_atlas,
    write_description,
    write_participants,
    write_relmat,
    write_timeseries,
)

__all__ = [
    "Atlas",
    "atlas_path",
    "duplicate_subjects",
    "input_problem",
    "list_subjects",
    "missing_files",
    "read_atlas",
    "read_relmat",
    "read_repetition_time",
    "read_sidecar",
    "read_timeseries",
    "relmat_path",
    "sidecars",
    "subject_files",
    "subject_label",
    "timeseries_path",
    "write_atlas",
    "write_description",
    "write_participants",
    "write_relmat",
    "write_timeseries",
]
