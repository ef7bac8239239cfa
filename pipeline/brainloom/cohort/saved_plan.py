"""The plan of a study on disk, ``results/<study>/plan.json``: what was predicted and what was measured for it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.core.errors import ConfigError


def save_plan(found: Mapping[str, Any], probe: Mapping[str, Any], path: Path) -> None:
    """Write a prediction (`brainloom.cohort.planning.Prediction.as_dict`) and what it was scaled from as JSON, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"prediction": dict(found), "probe": probe}, indent=1) + "\n", "utf-8")
    os.replace(temporary, path)


def read_plan(path: Path) -> dict[str, Any]:
    """
    What `save_plan` wrote.

    Returns
    -------
    dict
        ``prediction`` and ``probe``; empty if there is no file.

    Raises
    ------
    ConfigError
        The file is not such a plan.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [(str(row["rule"]), float(row["total_s"])) for row in found["prediction"]["rows"]]
        whole = bool(rows) and float(found["probe"]["step_s"]) >= 0
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ConfigError(
            f"{path} is not a plan of a study; delete it, or make it anew with brainloom plan --save"
        )
    return found
