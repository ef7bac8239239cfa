"""
Step ``report``: the HTML report and provenance.json of a study.

Run as ``python -m brainloom.steps.report --group F --tables DIR --connectome F.. --signal F.. --fit F..
--posterior F.. --simulation F.. --metrics F.. --benchmarks DIR --output report.html --provenance provenance.json
[--truth truth.tsv] --params JSON``, without ``--simulation`` where nothing was simulated, and with ``--each`` as in
`brainloom.steps._lists`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from brainloom.cohort.layout import dataset_kinds
from brainloom.steps._common import guarded, parse
from brainloom.steps._lists import written_out


def main(argv: Sequence[str] | None = None) -> int:
    """
    Write the report of a study.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the module name; those of the process if not given.

    Returns
    -------
    int
        0, or 2 after one line ``error: ...`` if a table or dataset is missing or damaged.
    """
    given = written_out(sys.argv[1:] if argv is None else argv)
    args = parse(
        "report",
        lists=dataset_kinds(simulated="--simulation" in given),
        singles=("group", "tables", "output", "provenance"),
        optional=("benchmarks", "truth"),
        argv=given,
    )
    return guarded(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    from brainloom.cohort.saved_plan import read_plan
    from brainloom.report.html import write_report
    from brainloom.report.results import Results, read_benchmarks, read_tables, read_truth

    results = Results(
        study=str(args.params["study"]),
        **read_tables(args.tables),
        datasets=_by_subject(args),
        group=args.group,
        truth=read_truth(args.truth) if args.truth else None,
        benchmarks=read_benchmarks(args.benchmarks),
        params=args.params,
        plan=read_plan(args.tables / "plan.json"),
    )
    write_report(results, output=args.output, provenance=args.provenance)
    size = args.output.stat().st_size / 1e6
    excluded = len(results.cohort) - len(results.included)
    print(
        f"report: {args.output} ({size:.1f} MB), {len(results.included)} subjects, {excluded} excluded",
        file=sys.stderr,
        flush=True,
    )


def _by_subject(args: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """Subject -> kind -> file, in the order given; the lists must agree on the subjects."""
    from brainloom.core.errors import StoreError
    from brainloom.store import read_attrs

    out: dict[str, dict[str, Path]] = {}
    for files in zip(*(getattr(args, kind) for kind in args.lists), strict=True):
        labels = [str(read_attrs(path).get("subject", "")) for path in files]
        if len(set(labels)) != 1:
            names = ", ".join(str(path) for path in files)
            raise StoreError(
                f"{names} belong to different subjects ({', '.join(labels)}); give each list in one order"
            )
        if labels[0] in out:
            raise StoreError(f"{files[0]} is a second dataset of subject {labels[0]}; give each subject once")
        out[labels[0]] = dict(zip(args.lists, files, strict=True))
    return out


if __name__ == "__main__":
    raise SystemExit(main())
