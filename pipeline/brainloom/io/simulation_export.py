"""Simulated signals of a dataset for other programs: BIDS derivatives of regions, FIF files of sensors."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainloom.core.modalities import ELECTRIC
from brainloom.io.simulated import write_bids_derivative, write_bids_recording

if TYPE_CHECKING:
    import xarray as xr

FORMATS = ("bids", "fif")


def export_simulation(
    folder: str | Path,
    subject: str,
    simulation: xr.Dataset,
    signal: xr.Dataset,
    formats: Sequence[str],
    *,
    atlas: str,
    task: str = "sim",
) -> list[Path]:
    """
    Write the first realisations of a simulation as one small BIDS dataset, whole or not at all.

    Parameters
    ----------
    folder : path
        Root of the dataset; what is there is replaced.
    subject : str
        Label.
    simulation, signal : xarray.Dataset
        Datasets of the subject; realisations are those whose EEG or MEG the simulation holds, and one without.
    formats : sequence of str
        ``bids``: series of regions (BOLD, sources) as tables with JSON sidecars. ``fif``: EEG and MEG at sensors as
        FIF files with JSON sidecars, in V and T.
    atlas : str
        Label of the atlas of the regions.
    task : str
        Value of the ``task`` entity.

    Returns
    -------
    list of Path
        The files that carry signals.

    Raises
    ------
    DataError
        A signal cannot be written.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        written = [
            path.relative_to(made) for path in _write(made, subject, simulation, signal, formats, atlas, task)
        ]
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return [folder / path for path in written]


def _write(
    root: Path,
    subject: str,
    simulation: xr.Dataset,
    signal: xr.Dataset,
    formats: Sequence[str],
    atlas: str,
    task: str,
) -> list[Path]:
    found: list[Path] = []
    regions = [str(label) for label in signal["region"].values]
    n_runs = max([simulation.sizes.get(f"{name}_seed", 0) for name in ELECTRIC] + [1])
    meta = {
        "Model": "simulated at the fitted parameters with fresh noise",
        "TimeStep": float(simulation.attrs["dt"]),
    }
    if "bids" in formats and "bold" in simulation:
        bold = simulation["bold"]
        for run, series in _finite(bold.isel(seed=slice(0, n_runs)).values):
            found.append(
                write_bids_derivative(
                    root,
                    subject,
                    series,
                    regions,
                    float(simulation.attrs["repetition_time"]),
                    atlas=atlas,
                    kind="bold",
                    task=task,
                    run=run,
                    unit=str(bold.attrs.get("units", "arbitrary")),
                    meta=meta | {"Realisation": run - 1},
                )
            )
    for name in ELECTRIC:
        if name not in simulation:
            continue
        rate = float(signal.attrs[f"{name}_sampling_frequency"])
        sensors = [str(label) for label in simulation[f"{name}_sensor"].values]
        for run, series in _finite(simulation[name].values):
            about = meta | {"Realisation": run - 1}
            if signal.attrs[f"{name}_space"] == "region" and "bids" in formats:
                found.append(
                    write_bids_derivative(
                        root,
                        subject,
                        series,
                        sensors,
                        1.0 / rate,
                        atlas=atlas,
                        kind=name,
                        task=task,
                        run=run,
                        unit=str(signal.attrs[f"{name}_unit"]),
                        meta=about,
                    )
                )
            elif signal.attrs[f"{name}_space"] == "sensor" and "fif" in formats:
                place = signal[f"{name}_position"].values / 1e3 if f"{name}_position" in signal else None
                found.append(
                    write_bids_recording(
                        root,
                        subject,
                        series,
                        rate,
                        sensors,
                        kind=name,
                        positions=place if name == "eeg" else None,
                        reference=str(signal.attrs[f"{name}_reference"]) if name == "eeg" else None,
                        task=task,
                        run=run,
                        meta=about,
                    )
                )
    return found


def _finite(stack: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Number (from 1) and series of the realisations that did not diverge."""
    return [
        (k + 1, np.asarray(one, dtype=np.float64)) for k, one in enumerate(stack) if np.isfinite(one).all()
    ]
