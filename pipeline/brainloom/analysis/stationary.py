"""What a stationary linear process with the spectra and correlations of the training part predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainloom.analysis.clean import detrend_only, observed
from brainloom.analysis.fc import average_correlations
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


def mean_features(made: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Mean over surrogates or realisations: correlations in Fisher z, spectra and variances as they are."""
    return {
        "fc": average_correlations([one["fc"] for one in made]),
        "lag1": average_correlations([one["lag1"] for one in made]),
        "psd": np.mean([one["psd"] for one in made], axis=0),
        "variance": np.mean([one["variance"] for one in made], axis=0),
    }
