"""Recovery of a cohort: estimates beside the truth, the calibration of every parameter, and one page that shows both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from brainloom.core.errors import DataError
from brainloom.steps._common import guarded, parse, read_kind
from brainloom.steps._lists import written_out


def collect(args: argparse.Namespace) -> None:
    """
    Write recovery.tsv, recovery_summary.tsv and recovery.html.

    Parameters
    ----------
    args : argparse.Namespace
        ``recovery`` (files, one a subject), ``output``, ``summary``, ``page``, ``params`` with ``model.name``.

    Raises
    ------
    DataError
        No subject has estimates.
    """
    import pandas as pd

    from brainloom.analysis.recovery_scores import COLUMNS, SUMMARY_COLUMNS, recovery_rows, summarise
    from brainloom.report.recovery_page import write_page
    from brainloom.steps._tables import write_table
    from brainloom.store import is_failed

    kept, excluded = [], {}
    for path in args.recovery:
        ds = read_kind(path, "recovery")
        if is_failed(ds):
            excluded[str(ds.attrs["subject"])] = str(ds.attrs["reason"])
        else:
            kept.append(ds)
    if not kept:
        reasons = "; ".join(dict.fromkeys(excluded.values()))
        raise DataError(f"no subject has a fit whose recovery could be tested: {reasons}")
    table = pd.concat([recovery_rows(ds) for ds in kept], ignore_index=True)
    summary = summarise(table, float(kept[0].attrs["level"]))
    write_table(args.output, COLUMNS, [[_text(cell) for cell in row] for row in table.values.tolist()])
    write_table(
        args.summary, SUMMARY_COLUMNS, [[_text(cell) for cell in row] for row in summary.values.tolist()]
    )
    write_page(
        args.page,
        str(args.params["study"]),
        table,
        summary,
        fc_r=[value for ds in kept for value in ds["fc_r"].values if value == value],
        fc_r_recording=[value for ds in kept for value in ds["fc_r_recording"].values if value == value],
        lost=sum(int(ds["lost"].sum()) for ds in kept),
        excluded=excluded,
    )
    for ds in kept:
        print(f"recovery_group sub-{ds.attrs['subject']}: ok", file=sys.stderr)
    for subject, reason in excluded.items():
        print(f"recovery_group sub-{subject}: excluded: {reason}", file=sys.stderr)


def _text(cell: object) -> str:
    return f"{cell:.10g}" if isinstance(cell, float) else str(cell)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--recovery F.. --output recovery.tsv --summary recovery_summary.tsv --page recovery.html --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 if no subject is left.
    """
    given = written_out(sys.argv[1:] if argv is None else argv)
    args = parse("recovery_group", lists=["recovery"], singles=["output", "summary", "page"], argv=given)
    return guarded(lambda: collect(args))


if __name__ == "__main__":
    sys.exit(main())
