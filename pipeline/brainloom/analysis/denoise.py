"""Regression of confounds out of regional BOLD, in the band of the analysis and for each part by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainloom.analysis.clean import bandpass, fill_censored, observed
from brainloom.io.parts import cut_of, pieces_of_run

# A confound whose share in the band is below this has nothing to say there.
_ABSENT = 1e-6


def remove_confounds(
    x: np.ndarray,
    confounds: np.ndarray,
    tr: float,
    *,
    band: Sequence[float] | None = (0.01, 0.1),
    order: int = 2,
) -> np.ndarray:
    """Subtract from every region the multiples of the confounds that explain it best within the band.

    Filtering after a regression brings back part of what was removed, because the filtered residual is no longer
    orthogonal to the confounds (Lindquist et al. 2019). So series and confounds are detrended and filtered alike, the
    coefficients are those of least squares (with intercept) between the filtered ones, over the frames that were not
    scrubbed, and these multiples of the unfiltered confounds are subtracted from the unfiltered series. Since filters
    are linear, the detrended and band-passed result is then exactly the residual of the regression in the band, and
    stays so however often it is filtered again in the same segment.

    Parameters
    ----------
    x : (time, region) array
        One segment, lines of NaN for scrubbed frames.
    confounds : (time, confound) array
        Values in scrubbed frames do not matter.
    tr : float
        Repetition time in s.
    band, order
        See `brainloom.analysis.clean.bandpass`.

    Returns
    -------
    (time, region) float64 array in the units and with the mean of `x`, NaN where `x` is.

    Raises
    ------
    ValueError
        The lengths differ, or a confound is no number in a frame that is there.
    """
    x = np.asarray(x, dtype=np.float64)
    confounds = np.asarray(confounds, dtype=np.float64)
    if len(confounds) != len(x):
        raise ValueError(f"confounds have {len(confounds)} frames; the segment has {len(x)}")
    kept = observed(x)
    if not np.isfinite(confounds[kept]).all():
        raise ValueError("a confound is no number in a frame that was not scrubbed")
    # Equal scales, so that squares of radians count as much as millimetres.
    known = confounds[kept]
    spread = known.std(axis=0)
    varying = spread > 1e-12 * np.abs(known).max(axis=0, initial=0.0)
    scaled = np.where(kept[:, None], confounds, np.nan)[:, varying]
    scaled = (scaled - known.mean(axis=0)[varying]) / spread[varying]
    if scaled.shape[1]:
        filtered = bandpass(scaled, tr, band=band, order=order)[kept]
        use = filtered.std(axis=0) > _ABSENT
        scaled, filtered = scaled[:, use], filtered[:, use]
    if not scaled.shape[1]:
        return x.copy()
    target = bandpass(x, tr, band=band, order=order)[kept]
    size = filtered.std(axis=0)
    centred = (filtered - filtered.mean(axis=0)) / size
    weights = np.linalg.lstsq(centred, target - target.mean(axis=0), rcond=1e-8)[0] / size[:, None]
    cleaned = x - fill_censored(scaled) @ weights
    return np.where(kept[:, None], cleaned, np.nan)


def denoise_runs(
    runs: Sequence[np.ndarray],
    tr: float,
    signal_config: Mapping[str, Any],
    confounds: Sequence[np.ndarray | None] | None = None,
    kept: Sequence[np.ndarray | None] | None = None,
    *,
    gaps: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Take scrubbed frames and confounds out of the runs of a subject.

    Training and test pieces of a run are treated one by one, so that no coefficient knows both; frames in the gaps
    between them stay as they are.

    Parameters
    ----------
    runs : sequence of (time, region) arrays
        First frames already dropped.
    tr : float
        Repetition time in s.
    signal_config : mapping
        Section `signal` of the configuration: `band`, `filter_order`, `splits, block, gap`.
    confounds : sequence of (time, confound) arrays
    kept : sequence of (time,) bool arrays
    gaps : sequence of int
        Frames between pieces of each run, where the configuration leaves them to the recording.

    Returns
    -------
    list of (time, region) arrays, lines of NaN for scrubbed frames.
    """
    cleaned, cut = [], cut_of(signal_config, tr)
    for at, run in enumerate(runs):
        x = np.array(run, dtype=np.float64)
        keep, values = (given[at] if given is not None else None for given in (kept, confounds))
        if keep is not None:
            x[~keep] = np.nan
        if values is not None and values.shape[1]:
            for start, stop in pieces_of_run(len(x), cut, None if gaps is None else gaps[at]):
                x[start:stop] = remove_confounds(
                    x[start:stop],
                    values[start:stop],
                    tr,
                    band=signal_config["band"],
                    order=signal_config["filter_order"],
                )
        cleaned.append(x)
    return cleaned
