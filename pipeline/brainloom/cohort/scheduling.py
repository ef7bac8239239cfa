"""Keeps Snakemake's own process light where a job has hundreds of files."""

from __future__ import annotations

import os
from typing import Any


def spare_the_scheduler(workflow: Any) -> None:
    """
    Make a local run of many files cheap to schedule; what runs, and what is written, stays the same.

    Snakemake 9 looks at the files of all waiting jobs again every second, once more for each job that has ended, to
    obey a limit of submissions that only clusters need. And when a job ends, it hashes each input once for every
    output: 60,000 times for a job of 125 subjects. Both took more than a core in a study of a thousand subjects.
    Here local runs have no such limit, and a file that has not changed is hashed once. Versions of Snakemake that lack
    these parts are left alone.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        Of a run that is about to start.
    """
    if getattr(workflow, "local_exec", False) and hasattr(workflow.scheduler, "job_rate_limiter"):
        workflow.scheduler.job_rate_limiter = None
    from snakemake.io import _IOFile

    plain = getattr(_IOFile, "checksum", None)
    if plain is None or hasattr(plain, "known"):
        return
    known: dict[tuple, Any] = {}

    async def checksum(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            now = os.stat(self)
        except OSError:
            return await plain(self, *args, **kwargs)
        asked = (str(self), now.st_ino, now.st_mtime_ns, now.st_size, args, tuple(sorted(kwargs.items())))
        if asked not in known:
            known[asked] = await plain(self, *args, **kwargs)
        return known[asked]

    checksum.known = known  # type: ignore[attr-defined]
    _IOFile.checksum = checksum
