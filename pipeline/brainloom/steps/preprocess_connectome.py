"""Connectome of each subject: read, checked, symmetric, transformed, normalised, with fibre lengths and mirror regions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainloom.io.checks import load_connectome
from brainloom.io.connectome import (
    find_hemispheres,
    find_homotopes,
    prepare_lengths,
    prepare_weights,
    symmetrise,
)
from brainloom.io.layout import subject_files
from brainloom.steps._common import parse, run_subjects

if TYPE_CHECKING:
    import xarray as xr


def connectome_dataset(subject: str, args: argparse.Namespace) -> xr.Dataset:
    """
    Make the connectome dataset of one subject.

    Parameters
    ----------
    subject : str
        Label.
    args : argparse.Namespace
        ``input`` (folder) and ``params`` (sections ``input, connectome``).

    Returns
    -------
    xarray.Dataset
        ``weights(region, region_to)``, [i, j] from j to i, and ``lengths(region, region_to)`` in mm; coordinates
        ``region, region_to`` (labels), ``hemisphere``, ``x, y, z`` (mm), ``homotope`` (position, -1 for none).

    Raises
    ------
    DataError
        The subject cannot be used.
    """
    import xarray as xr

    source, settings = args.params["input"], args.params["connectome"]
    raw = load_connectome(
        args.input, subject, source["atlas"], source["task"], symmetrise=settings["symmetrise"]
    )
    weights, scale = prepare_weights(
        raw.weights, transform=settings["transform"], normalise=settings["normalise"]
    )
    lengths, n_filled = prepare_lengths(raw.lengths, symmetrise(raw.weights))
    atlas, pair = raw.atlas, ("region", "region_to")
    place = {axis: ("region", atlas.coordinates[:, at], {"units": "mm", "long_name": f"{axis} of the region centre"})
             for at, axis in enumerate("xyz")}  # fmt: skip
    connected = np.count_nonzero(weights) / max(weights.size - len(weights), 1)
    return xr.Dataset(
        {
            "weights": (
                pair,
                weights,
                {"units": "1", "long_name": "connection weight to region from region_to"},
            ),
            "lengths": (pair, lengths, {"units": "mm", "long_name": "fibre length"}),
        },
        coords={
            "region": ("region", np.array(atlas.labels), {"long_name": "region"}),
            "region_to": ("region_to", np.array(atlas.labels), {"long_name": "source region"}),
            "hemisphere": (
                "region",
                np.array(find_hemispheres(atlas.labels, atlas.hemisphere)),
                {"long_name": "hemisphere (L, R, n/a)"},
            ),
            "homotope": (
                "region",
                find_homotopes(atlas.labels, atlas.homotope).astype(np.int64),
                {"units": "1", "long_name": "position of the mirror region, -1 for none"},
            ),
            **place,
        },
        attrs={
            "atlas": source["atlas"],
            "density": connected,
            "lengths_filled": n_filled,
            "normalisation": settings["normalise"],
            "scale": scale,
            "transform": settings["transform"],
        },
    )


def _raw_inputs(subject: str, args: argparse.Namespace) -> list[Path]:
    source = args.params["input"]
    files = subject_files(args.input, subject, source["atlas"], source["task"])
    # A missing file is named by the checks that follow.
    return [files[name] for name in ("atlas", "weight", "length") if files[name].is_file()]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--input DIR --subject L.. --output F.. --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    args = parse("preprocess_connectome", lists=["subject", "output"], singles=["input"], argv=argv)
    return run_subjects(
        args, lambda subject, _, args: connectome_dataset(subject, args), raw_inputs=_raw_inputs
    )


if __name__ == "__main__":
    sys.exit(main())
