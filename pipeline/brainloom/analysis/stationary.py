"""What a stationary linear process with the spectra and correlations of the training part predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainloom.analysis.clean import (
    bandpass,
    detrend_only,
    observed,
    remove_global_signal,
    without,
    zscore,
)
from brainloom.analysis.fc import average_correlations, functional_connectivity, lagged_correlation
from brainloom.analysis.spectra import welch_psd
from brainloom.analysis.surrogates import phase_randomised


def surrogate_segments(segments: Sequence[np.ndarray], seed: list[int]) -> list[np.ndarray]:
    """
    Phase-randomised copy of every segment; the frames that the recording lacks, it lacks too.

    Parameters
    ----------
    segments : sequence of (time, region) arrays
        Raw, lines of NaN for scrubbed frames.
    seed : list of int
        The place of the segment is added to it.
    """
    return [
        np.where(observed(x)[:, None], phase_randomised(detrend_only(x), [*seed, at]), np.nan)
        for at, x in enumerate(segments)
    ]


def second_order_features(
    segments: Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """
    Features without dynamics, as `brainloom.analysis.features.features` computes them, at a fifth of its cost.

    Parameters
    ----------
    segments, tr, signal_config
        See there.

    Returns
    -------
    dict
        ``fc, lag1`` (region, region), ``psd`` (region, frequency), ``variance`` (region,).
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("fc", "lag1", "psd", "variance")}
    frames = []
    for x in segments:
        kept = observed(x)
        filtered = without(
            bandpass(x, tr, band=signal_config["band"], order=signal_config["filter_order"]), kept
        )
        if signal_config["global_signal_regression"]:
            filtered = remove_global_signal(filtered)
        cleaned = np.full(x.shape, np.nan)
        cleaned[kept] = zscore(filtered)
        variance = filtered.var(axis=0)
        mean = variance.mean()
        found["fc"].append(functional_connectivity(without(cleaned, kept)))
        found["lag1"].append(lagged_correlation(cleaned))
        found["variance"].append(variance / mean if mean > 0 else variance)
        found["psd"].append(welch_psd(zscore(detrend_only(x)), tr, signal_config["psd_window"])[1])
        frames.append(int(kept.sum()))
    return {
        "fc": average_correlations(found["fc"], frames),
        "lag1": average_correlations(found["lag1"], frames),
        "psd": np.average(found["psd"], axis=0, weights=frames),
        "variance": np.average(found["variance"], axis=0, weights=frames),
    }


def mean_features(made: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Mean over surrogates or realisations: correlations in Fisher z, spectra and variances as they are."""
    return {
        "fc": average_correlations([one["fc"] for one in made]),
        "lag1": average_correlations([one["lag1"] for one in made]),
        "psd": np.mean([one["psd"] for one in made], axis=0),
        "variance": np.mean([one["variance"] for one in made], axis=0),
    }
