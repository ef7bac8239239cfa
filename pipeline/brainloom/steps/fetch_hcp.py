"""Make the cohort of seven Human Connectome Project subjects, with the network and pip."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from brainloom.io.hcp import LABELS, SUBJECTS, fetch_hcp
from brainloom.steps._common import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--output DIR``.

    Returns
    -------
    int
        0, or 2 after one line if the data cannot be had.
    """
    parser = argparse.ArgumentParser(prog="python -m brainloom.steps.fetch_hcp", allow_abbrev=False)
    parser.add_argument("--output", required=True, type=Path, help="folder to make or to replace")
    args = parser.parse_args(argv)

    def job() -> None:
        fetch_hcp(args.output)
        print(f"{args.output}: {len(SUBJECTS)} subjects, {len(LABELS)} regions", file=sys.stderr)

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
