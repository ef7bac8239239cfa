"""The plan of a study on disk, ``results/<study>/plan.json``: what was predicted and what was measured for it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.core.errors import ConfigError

# What a probe has measured.
MEASURED = (
    *(f"connectome_{what}" for what in ("s", "mb", "bytes")),
    *(f"signal_{what}" for what in ("s", "start_s", "mb", "bytes")),
    *("import_s", "fit_compile_s", "step_s", "describe_s", "fit_mb", "fit_bytes"),
    *("simulate_compile_s", "simulate_s", "simulate_share", "simulate_mb", "simulation_bytes"),
    *("regions", "coordinates", "test_s", "segment_s", "repetition_time", "subject", "core_share"),
)


def save_plan(found: Mapping[str, Any], probe: Mapping[str, Any], path: Path) -> None:
    """
    Write a prediction and what it was scaled from as JSON, whole or not at all; folders are made.

    Parameters
    ----------
    found : mapping
        `brainloom.cohort.planning.Prediction.as_dict`.
    probe : mapping
        From `brainloom.cohort.probe.run_probe`.
    path : pathlib.Path
    """
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
        rows = [float(row["total_s"]) + float(row["memory_mb"]) for row in found["prediction"]["rows"]]
        whole = bool(rows) and isinstance(found["probe"], dict)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise _not_a_plan(path)
    return found


def read_probe(path: Path) -> dict[str, Any]:
    """
    What was measured for a saved plan.

    Raises
    ------
    ConfigError
        There is no such file, or it lacks one of `MEASURED`.
    """
    if not path.exists():
        raise ConfigError(f"{path} is not there yet; run brainloom plan with --save and without --no-probe")
    probe: dict[str, Any] = read_plan(path)["probe"]
    if not set(MEASURED) <= set(probe):
        raise _not_a_plan(path)
    return probe


def _not_a_plan(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is not a plan of a study; delete it, or make it anew with brainloom plan --save"
    )
