"""What a simulation stage compares: features of parts of the recording, and the objective that its weights make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from brainloom.analysis.features import features
from brainloom.analysis.signal_dataset import stored_splits
from brainloom.core.errors import DataError
from brainloom.objectives import (
    FC,
    FCD,
    PSD,
    LaggedFC,
    Objective,
    Variance,
    fc_corr,
    fc_rmse,
    fcd_ks,
    fcd_wasserstein,
    lagged_fc,
    psd_log,
    variance,
)

# Parts of the recording: what is fitted, and what decides. Their frames are those of the training part.
FITTED, DECIDING = "train_early", "validation"
WINDOWED = ("fcd_ks", "fcd_wasserstein")


def stage_targets(
    subject: str, signal: xr.Dataset, weights: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """
    Features of the part that is fitted and of the part that decides, for the terms with a weight.

    Parameters
    ----------
    subject : str
        Label.
    signal : xarray.Dataset
    weights : mapping of str to float
        Section ``objective`` of a stage.

    Returns
    -------
    dict of dict of str to Feature
        `FITTED` and `DECIDING` to the features of their frames, by term.

    Raises
    ------
    DataError
        A part is too short for windows of FC dynamics, or not finite.
    """
    config = json.loads(signal.attrs["signal_config"])
    tr = float(signal.attrs["repetition_time"])
    windows = (int(signal.attrs["fcd_window_frames"]), int(signal.attrs["fcd_step_frames"]))
    segments = stored_splits(signal)
    found = {}
    for part in (FITTED, DECIDING):
        made = features(segments[part], tr, config)
        matrix = made["fcd"]
        far = np.triu_indices(len(matrix), -(-windows[0] // windows[1]))
        windowed = [name for name in WINDOWED if weights.get(name)]
        if windowed and not np.isfinite(matrix[far]).any():
            where = "validation part" if part == DECIDING else "training part before the validation part"
            raise DataError(
                f"sub-{subject}: the {where} has {made['n_frames']} frames, too few for two windows of "
                f"{windows[0]} frames; leave {windowed[0]} out of fit.stages or shorten signal.fcd_window"
            )
        dynamics = _feature(FCD, matrix, *windows)
        every: dict[str, Any] = {
            "fc": _feature(FC, made["fc"]),
            "fc_corr": _feature(FC, made["fc"]),
            "lag1": _feature(LaggedFC, made["lag1"]),
            "fcd_ks": dynamics,
            "fcd_wasserstein": dynamics,
            "variance": _feature(Variance, made["variance"]),
            "psd": _feature(PSD, made["frequency"], made["psd"]),
        }
        found[part] = {name: every[name] for name in every if weights.get(name)}
    return found


def _feature(kind: Any, *values: Any) -> Any:
    return kind(*values)


class StageObjective:
    """
    Weighted sum of comparisons of simulated BOLD with features of the recording.

    Parameters
    ----------
    weights : mapping of str to float
        ``fc``, ``lag1``: mean squared differences, as in the analytic stage; ``fc_corr``, ``variance``: 1 - r;
        ``fcd_ks``, ``fcd_wasserstein``: distances of distributions; ``psd``: distance of log spectra in decades.
    signal : xarray.Dataset
        Whose windows, band and segments count.
    """

    def __init__(self, weights: Mapping[str, float], signal: xr.Dataset) -> None:
        config = json.loads(signal.attrs["signal_config"])
        tr = float(signal.attrs["repetition_time"])
        windows = (int(signal.attrs["fcd_window_frames"]), int(signal.attrs["fcd_step_frames"]))
        every: dict[str, tuple[Objective, bool]] = {
            "fc": (fc_rmse(), True),
            "fc_corr": (fc_corr(as_loss=True), False),
            "lag1": (lagged_fc(1, measure="rmse"), True),
            "fcd_ks": (fcd_ks(*windows, tr=tr), False),
            "fcd_wasserstein": (fcd_wasserstein(*windows, tr=tr), False),
            "variance": (variance(as_loss=True), False),
            "psd": (
                psd_log(dt=tr, band=tuple(config["band"]), window=config["psd_window"] * tr, relative=True),
                False,
            ),
        }
        self.terms = {name: (float(w), *every[name]) for name, w in weights.items() if w}

    def each(self, bold: Mapping[str, jax.Array], target: Mapping[str, Any]) -> dict[str, jax.Array]:
        """
        Every term without its weight.

        Parameters
        ----------
        bold : dict of (time, realisation, region) arrays
            ``clean``: as the recording was cleaned; ``raw``.
        target : dict of Feature
            By term.
        """
        found = {}
        for name, (_, compare, squared) in self.terms.items():
            value = compare(bold["raw" if name == "psd" else "clean"], target[name])
            found[name] = value**2 if squared else value
        return found

    def __call__(self, bold: Mapping[str, jax.Array], target: Mapping[str, Any]) -> jax.Array:
        """The weighted sum; see `each`."""
        found = self.each(bold, target)
        return sum(self.terms[name][0] * found[name] for name in found)  # type: ignore[return-value]
