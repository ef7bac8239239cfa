"""What all workflow steps share: their command line, and the loop over the subjects of a batch."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainloom.core.errors import BrainloomError, DataError, StoreError
from brainloom.core.provenance import file_sha256, provenance_attrs
from brainloom.core.runtime import PRECISIONS, configure, device_kind

if TYPE_CHECKING:
    import xarray as xr

    Inputs = dict[str, xr.Dataset]
    Work = Callable[[str, Inputs, argparse.Namespace], xr.Dataset]
    Batch = Callable[[Sequence[str], Sequence[Inputs], argparse.Namespace], Sequence[xr.Dataset | DataError]]

# The kind of dataset that each per-subject step makes.
KIND_OF_STEP = {
    "preprocess_connectome": "connectome",
    "preprocess_signal": "signal",
    "fit": "fit",
    "identify": "posterior",
    "simulate": "simulation",
    "analyse": "metrics",
    "reliability": "reliability",
    "recover": "recovery",
}
KIND_OF_LIST = {"connectome": "connectome", "donor": "connectome", "signal": "signal", "fit": "fit"} | {
    "posterior": "posterior",
    "simulation": "simulation",
    "metrics": "metrics",
    "recovery": "recovery",
}
# Subjects whose fits share one program at a time.
TOGETHER = 32
REQUIRED_PARAMS = ("study", "seed", "precision")


def parse(
    step: str,
    *,
    lists: Sequence[str] = (),
    singles: Sequence[str] = (),
    optional: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> argparse.Namespace:
    """
    Read the command line of a step, and set threads and precision of the process.

    Parameters
    ----------
    step : str
        Name of the step, as in ``python -m brainloom.steps.<step>``.
    lists : sequence of str
        Arguments with one value per subject, all in the same order: ``"subject"`` (labels) or files.
    singles : sequence of str
        Arguments with one path.
    optional : sequence of str
        Arguments with one path that may be left out (then None).
    argv : sequence of str, optional
        The words after the module name; those of the process if not given.

    Returns
    -------
    argparse.Namespace
        One attribute an argument (paths as `pathlib.Path`, labels as str), ``params`` (dict), ``threads``
        (int), ``step`` and ``lists``.

    Raises
    ------
    SystemExit
        Status 2 after one sentence: an argument is missing, lists differ in length, ``--params`` is no JSON
        object or lacks one of ``study``, ``seed``, ``precision``.

    Examples
    --------
    >>> args = parse("identify", lists=["fit", "output"], argv=[
    ...     "--fit", "a", "b", "--output", "c", "d",
    ...     "--params", '{"study": "demo", "seed": 0, "precision": "float64"}'])
    >>> args.output[1].name, args.params["study"]
    ('d', 'demo')
    """
    parser = argparse.ArgumentParser(prog=f"python -m brainloom.steps.{step}", allow_abbrev=False)
    for name in lists:
        kind: Callable[[str], Any] = str if name == "subject" else Path
        parser.add_argument(f"--{name}", nargs="*", type=kind, required=True, help="one value per subject")
    for name in singles:
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in optional:
        parser.add_argument(f"--{name}", type=Path, default=None)
    parser.add_argument(
        "--params", required=True, help="the part of the config that this step reads, as JSON"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    args = parser.parse_args(argv)
    args.step, args.lists = step, tuple(lists)
    lengths = {name: len(getattr(args, name)) for name in lists}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"--{name} {count}" for name, count in lengths.items())
        parser.error(f"lists must have one value per subject, but have {counted}")
    try:
        args.params = json.loads(args.params)
    except ValueError as err:
        parser.error(f"--params is not JSON: {err}")
    if not isinstance(args.params, dict):
        parser.error(f"--params is a JSON {type(args.params).__name__}; it must be an object")
    for key in REQUIRED_PARAMS:
        if key not in args.params:
            parser.error(f"--params has no {key!r}; it needs {', '.join(REQUIRED_PARAMS)}")
    if args.params["precision"] not in PRECISIONS:
        parser.error(f"precision is {args.params['precision']!r}; it must be one of {', '.join(PRECISIONS)}")
    if args.threads < 1:
        parser.error(f"--threads is {args.threads}; it must be at least 1")
    configure(args.threads, args.params["precision"])
    return args


def run_subjects(
    args: argparse.Namespace,
    work: Work,
    *,
    raw_inputs: Callable[[str, argparse.Namespace], Iterable[Path]] | None = None,
    tolerate: Sequence[str] = (),
) -> int:
    """
    Make the dataset of each subject of a batch.

    For each subject: its input datasets are read and verified; if one stands for a failure, so does the
    output, with the same reason; else ``work(subject, inputs, args)`` makes the output. A `DataError` from
    `work` excludes the subject. The attributes that every dataset has are added here.

    Parameters
    ----------
    args : argparse.Namespace
        From `parse`, with a list ``output``. Every other list but ``subject`` names input datasets.
    work : callable
        ``work(subject, inputs, args) -> xarray.Dataset``, with the label without ``sub-`` and a dict from
        list name to loaded dataset. It must depend on nothing else of the batch.
    raw_inputs : callable, optional
        ``raw_inputs(subject, args)`` gives the raw files that `work` reads, for their hashes. It may raise
        `DataError`.
    tolerate : sequence of str
        Lists (such as ``donor``) whose failure does not exclude the subject: `work` gets the failed dataset
        and asks `brainloom.store.is_failed`.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 after a line ``error: ...`` on a `BrainloomError` of the study,
        such as a damaged file. Other exceptions propagate.
    """

    def each(subjects: Sequence[str], inputs: Sequence[Inputs], args: argparse.Namespace) -> list:
        try:
            return [work(subjects[0], inputs[0], args)]
        except DataError as err:
            return [err]

    return run_batch(args, each, size=1, raw_inputs=raw_inputs, tolerate=tolerate)


def run_batch(
    args: argparse.Namespace,
    work: Batch,
    *,
    size: int = TOGETHER,
    raw_inputs: Callable[[str, argparse.Namespace], Iterable[Path]] | None = None,
    tolerate: Sequence[str] = (),
) -> int:
    """
    Make the datasets of the subjects of a batch, several in one call.

    Parameters
    ----------
    args : argparse.Namespace
        As in `run_subjects`.
    work : callable
        ``work(subjects, inputs, args) -> list of xarray.Dataset or DataError``, one for each subject. None may depend
        on the others.
    size : int
        Subjects a call; what they are given is in memory at once.
    raw_inputs, tolerate
        As in `run_subjects`.

    Returns
    -------
    int
        As `run_subjects`.
    """
    from brainloom.store import write_dataset

    def batch() -> None:
        places = range(len(args.output))
        for first in range(0, len(places), size):
            start = time.perf_counter()
            opened = [_opened(args, index, raw_inputs, tolerate) for index in places[first : first + size]]
            usable = [one for one in opened if one.reason is None]
            made = (
                work([one.subject for one in usable], [one.inputs for one in usable], args) if usable else []
            )
            found = dict(zip([one.subject for one in usable], made, strict=True))
            for one in opened:
                ds = _finished(args, one, found.get(one.subject))
                write_dataset(one.output, ds)
                took = f"{(time.perf_counter() - start) / len(opened):.1f} s"
                outcome = (
                    f"excluded: {ds.attrs['reason']}" if ds.attrs["status"] == "failed" else f"ok ({took})"
                )
                print(f"{args.step} sub-{one.subject}: {outcome}", file=sys.stderr, flush=True)

    return guarded(batch)


def guarded(job: Callable[[], None]) -> int:
    """
    Run a step's job; turn an expected error into one line.

    Parameters
    ----------
    job : callable
        Takes nothing.

    Returns
    -------
    int
        0, or 2 after ``error: <sentence>`` on standard error. Unexpected exceptions propagate.
    """
    try:
        job()
    except BrainloomError as err:
        print(f"error: {err}", file=sys.stderr, flush=True)
        return 2
    return 0


def read_kind(path: Path, kind: str) -> xr.Dataset:
    """
    Read a stored dataset and check that it is of the wanted kind.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : str
        Such as ``"fit"``.

    Raises
    ------
    StoreError
        The file is missing, damaged or of another kind.
    """
    from brainloom.store import read_dataset

    ds = read_dataset(path)
    if ds.attrs.get("kind") != kind:
        raise StoreError(
            f"{path} holds a dataset of kind {ds.attrs.get('kind')!r}; give one of kind {kind!r}"
        )
    return ds


@dataclass(frozen=True)
class _Opened:
    """A subject whose inputs are read: they, their hashes, and why it cannot be used, if so."""

    subject: str
    output: Path
    inputs: Inputs
    hashes: dict[str, str]
    reason: str | None


def _opened(args: argparse.Namespace, index: int, raw_inputs: Any, tolerate: Sequence[str]) -> _Opened:
    """The subject at one place of the lists."""
    from brainloom.store import is_failed

    names = [name for name in args.lists if name not in ("subject", "output")]
    inputs = {name: read_kind(getattr(args, name)[index], KIND_OF_LIST[name]) for name in names}
    subject = _label(args, index, inputs)
    hashes = {name: str(ds.attrs["content_hash"]) for name, ds in inputs.items()}
    reasons = [
        str(ds.attrs["reason"]) for name, ds in inputs.items() if is_failed(ds) and name not in tolerate
    ]
    if raw_inputs is not None and not reasons:
        try:
            hashes |= {_relative(path, args): file_sha256(path) for path in raw_inputs(subject, args)}
        except DataError as err:
            reasons = [str(err)]
    return _Opened(subject, args.output[index], inputs, hashes, reasons[0] if reasons else None)


def _finished(args: argparse.Namespace, one: _Opened, made: xr.Dataset | DataError | None) -> xr.Dataset:
    """The dataset of a subject with the attributes that all have."""
    from brainloom.store import failed_dataset

    kind, params = KIND_OF_STEP[args.step], args.params
    if made is None or isinstance(made, DataError):
        ds = failed_dataset(kind, one.subject, str(one.reason if made is None else made))
    else:
        ds = made.assign_attrs(status="ok", reason="")
    return ds.assign_attrs(
        kind=kind,
        subject=one.subject,
        study=str(params["study"]),
        **provenance_attrs(
            args.step,
            params,
            one.hashes,
            seed=params["seed"],
            precision=params["precision"],
            device=device_kind(),
        ),
    )


def _label(args: argparse.Namespace, index: int, inputs: dict[str, xr.Dataset]) -> str:
    """The subject's label: given, or that of its inputs, which must agree (a donor is another subject)."""
    given = [args.subject[index]] if "subject" in args.lists else []
    found = given + [str(ds.attrs["subject"]) for name, ds in inputs.items() if name != "donor"]
    if len(set(found)) != 1:
        files = ", ".join(str(getattr(args, name)[index]) for name in inputs if name != "donor")
        raise StoreError(
            f"{files} belong to different subjects ({', '.join(found)}); give each list in one order"
        )
    return found[0]


def _relative(path: Path, args: argparse.Namespace) -> str:
    """A raw file's name inside the input folder, the same on every machine."""
    root = getattr(args, "input", None)
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name
