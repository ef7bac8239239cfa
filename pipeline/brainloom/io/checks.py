"""Is the input of a subject usable? Each check raises one sentence: file, subject, field, value found, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.bold import bold_files, check_bold_files
from brainloom.io.bold_files import bold_options
from brainloom.io.connectome import find_homotopes, prepare_lengths
from brainloom.io.connectome import symmetrise as both_ways
from brainloom.io.layout import input_problem, subject_label
from brainloom.io.reading import Atlas, read_atlas, read_relmat

# Tables are stored with about 6 digits, so mirrored entries may differ in the last one.
ASYMMETRY_TOLERANCE = 1e-5


class RawConnectome(NamedTuple):
    """Checked connectome tables of one subject: ``weights, lengths`` (region, region_to), mm, as in the files."""

    weights: np.ndarray
    lengths: np.ndarray
    atlas: Atlas


def check_connectome(
    subject: str,
    weights: np.ndarray,
    lengths: np.ndarray,
    labels: Sequence[str],
    files: Mapping[str, Any],
    *,
    symmetrise: bool = True,
) -> None:
    """Check weights and lengths of one subject; the diagonal is ignored.

    Parameters
    ----------
    subject : label.
    weights : ndarray, (region, region_to), [i, j] from j to i.
    lengths : ndarray, (region, region_to), mm; may be n/a or 0 where the weight is 0.
    labels : (region,)
    files : ``weight`` and ``length``: paths for messages.
    symmetrise : if false, asymmetric tables are refused.

    Raises
    ------
    DataError
        Wrong shape, missing, negative or asymmetric entries, a region without connections, a connection without length.
    """
    who = f"sub-{subject_label(subject)}"
    n = len(labels)
    for field, matrix in (("weight", weights), ("length", lengths)):
        if matrix.shape != (n, n):
            size = " x ".join(map(str, matrix.shape))
            raise DataError(
                f"{files[field]}: {who} matrix is {size}; it must be {n} x {n}, the regions of the atlas"
            )
    off = ~np.eye(n, dtype=bool)
    weights = np.where(off, weights, 0.0)
    lengths = np.where(off, lengths, 0.0)
    _refuse_missing_weights(who, weights, labels, files["weight"])
    needed = np.where(weights + weights.T > 0, lengths, 0.0)
    for field, matrix in (("weight", weights), ("length", lengths)):
        at = _first(matrix < 0)
        if at is not None:
            raise DataError(
                f"{files[field]}: {who} {field} {_edge(labels, at)} is {matrix[at]:.6g}; "
                f"a {field} cannot be negative, so correct the table"
            )
    if not symmetrise:
        for field, matrix in (("weight", weights), ("length", needed)):
            at = _first(np.abs(matrix - matrix.T) > ASYMMETRY_TOLERANCE * np.nanmax(matrix, initial=0.0))
            if at is not None:
                raise DataError(
                    f"{files[field]}: {who} {field} {_edge(labels, at)} is {matrix[at]:.6g} and "
                    f"{matrix[at[::-1]]:.6g} the other way; set connectome.symmetrise to true or make the table symmetric"
                )
    strength = weights.sum(axis=0) + weights.sum(axis=1)
    if (strength == 0).any():
        lonely = np.flatnonzero(strength == 0)
        more = f" ({len(lonely)} such regions)" if len(lonely) > 1 else ""
        raise DataError(
            f"{files['weight']}: {who} region {labels[lonely[0]]!r} has only weights of 0{more}; "
            "leave the region out of the atlas and all tables, or leave the subject out"
        )
    # A pair that is connected in one direction only may have its length there only.
    at = _first(off & (weights + weights.T > 0) & ~(lengths > 0) & ~(lengths.T > 0))
    if at is not None:
        found = "n/a" if np.isnan(lengths[at]) else "0"
        weight = max(weights[at], weights[at[::-1]])
        raise DataError(
            f"{files['length']}: {who} length {_edge(labels, at)} is {found} although the weight is {weight:.6g}; "
            "every connection needs a length in mm"
        )
    at = _first(np.isinf(lengths))
    if at is not None:
        raise DataError(
            f"{files['length']}: {who} length {_edge(labels, at)} is infinite; write n/a where there is no connection"
        )
    at = _first(np.isnan(prepare_lengths(lengths, both_ways(weights))[0]))
    if at is not None:
        raise DataError(
            f"{files['length']}: {who} length {_edge(labels, at)} is missing and no chain of connections links the two; "
            "give this length in mm"
        )


def _refuse_missing_weights(who: str, weights: np.ndarray, labels: Sequence[str], path: Path) -> None:
    bad = ~np.isfinite(weights)
    if not bad.any():
        return
    count = (bad | bad.T).sum(axis=1)
    worst = int(np.argmax(count))
    raise DataError(
        f"{path}: {who} region {labels[worst]!r} has {count[worst]} of {len(labels) - 1} weights that are not numbers; "
        "write 0 where there is no connection, or leave the region or the subject out"
    )


def _first(mask: np.ndarray) -> tuple[int, int] | None:
    found = np.argwhere(mask)
    return (int(found[0][0]), int(found[0][1])) if len(found) else None


def _edge(labels: Sequence[str], at: tuple[int, int]) -> str:
    return f"from {labels[at[1]]!r} to {labels[at[0]]!r}"


def load_connectome(
    root: str | Path, subject: str, atlas: str, task: str, *, symmetrise: bool = True
) -> RawConnectome:
    """Read and check the connectome of one subject.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    atlas, task : entities of the file names.
    symmetrise : see `check_connectome`.

    Raises
    ------
    DataError
        The subject cannot be used, in one sentence.
    """
    files = bold_files(root, subject, atlas, task, {})
    table = read_atlas(files["atlas"])
    weights, lengths = (read_relmat(files[measure], table.labels) for measure in ("weight", "length"))
    check_connectome(subject, weights, lengths, table.labels, files, symmetrise=symmetrise)
    try:
        find_homotopes(table.labels, table.homotope)
    except DataError as error:
        raise DataError(f"{files['atlas']}: {error}") from None
    return RawConnectome(weights, lengths, table)


def check_subject(
    root: str | Path,
    subject: str,
    atlas: str,
    task: str,
    *,
    signal: Mapping[str, Any],
    symmetrise: bool = True,
    atlas_image: str | None = None,
    modality: Sequence[str] = ("bold",),
    electric: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Check everything that a study reads of one subject.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    atlas, task : entities of the file names.
    signal : section of the configuration (see `brainloom.io.bold.load_bold`).
    symmetrise : see `check_connectome`.
    atlas_image : see `brainloom.io.bold.load_bold`.
    modality : what the study models, any of ``bold``, ``eeg``, ``meg``.
    electric : sections ``eeg`` and ``meg`` of the configuration, as far as they are used.

    Raises
    ------
    DataError
        The first problem found, in one sentence.
    """
    options = bold_options({"input": {"atlas_image": atlas_image}, "signal": signal})
    problem = input_problem(root, subject, atlas, task, **options, bold="bold" in modality)
    if problem:
        raise DataError(problem)
    found = load_connectome(root, subject, atlas, task, symmetrise=symmetrise)
    if "bold" in modality:
        check_bold_files(root, subject, atlas, task, signal=signal, atlas_image=atlas_image)
    for name, settings in (electric or {}).items():
        from brainloom.io.meeg_checks import check_meeg

        check_meeg(root, subject, task, name, settings, signal=signal, atlas=found.atlas, atlas_label=atlas)
