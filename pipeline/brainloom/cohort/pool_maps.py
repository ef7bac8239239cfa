"""Brain maps that a study gives its pooled fits: where they are, and what is wrong with them before any compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.core.errors import DataError
from brainloom.io.brain_maps import read_brain_maps
from brainloom.io.layout import atlas_path
from brainloom.io.reading import read_atlas


def maps_file(config: Mapping[str, Any]) -> list[str]:
    """The table of ``pool.maps``, as a list of one path, or none."""
    return (
        [config["pool"]["maps"]] if config["pool"] is not None and config["pool"]["maps"] is not None else []
    )


def map_problems(config: Mapping[str, Any]) -> list[str]:
    """
    What makes the maps of a study useless for its regions.

    Parameters
    ----------
    config : mapping
        Validated.

    Returns
    -------
    list of str
        One sentence, or nothing. Regions are not compared while the atlas of fetched data is not there.
    """
    atlas = atlas_path(config["input"]["path"], config["input"]["atlas"])
    for path in maps_file(config):
        if not Path(path).is_file():
            return [f"pool.maps: {path} is not a file; correct the path, or set pool.maps to null"]
        if not atlas.is_file():
            continue
        try:
            read_brain_maps(path, read_atlas(atlas).labels)
        except DataError as error:
            return [f"pool.maps: {error}"]
    return []
