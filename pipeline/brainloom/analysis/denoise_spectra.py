"""Regression of confounds out of BOLD for its cross-spectra, and the degrees of freedom that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainloom.analysis.clean import detrend_only, observed
from brainloom.analysis.splits import Segments, segments_of
from brainloom.io.confounds import Confounds
from brainloom.io.parts import Piece

# A confound whose share in the band is below this has nothing to say there.
_ABSENT = 1e-6


def remove_in_band(
    x: np.ndarray, confounds: np.ndarray, tr: float, band: Sequence[float]
) -> tuple[np.ndarray, float]:
    """Subtract the part of the confounds that lies within the band, as least squares over its frequencies says.

    Cross-spectra are estimated from series that no filter has seen. A slow confound (drifts of the head) that explains
    a little within the band would bring its slow part into them, enlarged, and that leaks into the lowest frequencies:
    so nothing is subtracted outside of the band.

    Parameters
    ----------
    x : (time, region) array
        One segment, lines of NaN for scrubbed frames.
    confounds : (time, confound) array
        Values in scrubbed frames do not matter.
    tr : float
        Repetition time in s.
    band : (low, high)
        Hz.

    Returns
    -------
    cleaned : (time, region) array in the units and with the mean of `x`, NaN where `x` is.
    share : float
        Of the degrees of freedom within the band, two a frequency, the share that the confounds leave.

    Examples
    --------
    >>> x, confounds = np.split(np.random.default_rng(0).normal(size=(400, 12)), [3], axis=1)
    >>> round(remove_in_band(x, confounds, 2.0, (0.01, 0.1))[1], 3)  # 1 - 9 / 146
    0.938
    """
    x = np.asarray(x, dtype=np.float64)
    kept = observed(x)
    given = detrend_only(np.where(kept[:, None], np.asarray(confounds, dtype=np.float64), np.nan))
    frequency = np.fft.rfftfreq(len(x), tr)
    inside = (frequency >= band[0]) & (frequency <= band[1]) & (frequency < 0.5 / tr * (1 - 1e-9))

    def real_rows(transform: np.ndarray) -> np.ndarray:
        return np.concatenate([transform[inside].real, transform[inside].imag])

    transform = np.fft.rfft(given, axis=0)
    size, whole = (np.linalg.norm(one, axis=0) for one in (real_rows(transform), transform))
    use = size > _ABSENT * np.maximum(whole, np.finfo(float).tiny)
    if not use.any():
        return x.copy(), 1.0
    scaled = transform[:, use] / size[use]
    found = np.linalg.lstsq(real_rows(scaled), real_rows(np.fft.rfft(detrend_only(x), axis=0)), rcond=1e-8)
    explained = np.fft.irfft(np.where(inside[:, None], scaled, 0.0), len(x), axis=0) @ found[0]
    return x - explained, 1.0 - float(found[2]) / (2 * int(inside.sum()))


def spectral_splits(
    runs: Sequence[np.ndarray],
    confounds: Sequence[Confounds],
    tr: float,
    signal_config: Mapping[str, Any],
    pieces: Mapping[str, Sequence[Piece]],
) -> tuple[dict[str, Segments], dict[str, float]]:
    """Segments of each split without confounds, as `brainloom.analysis.denoise.denoise_runs` cuts them.

    Parameters
    ----------
    runs : sequence of (time, region) arrays
        First frames already dropped.
    confounds : sequence of brainloom.io.confounds.Confounds
        Of each run; frames that are not kept become lines of NaN.
    tr : float
        Repetition time in s.
    signal_config : mapping
        Section `signal` of the configuration: `band`.
    pieces : mapping of split -> pieces
        As the signal dataset cuts the runs; those of ``train`` and ``test`` are cleaned one by one.

    Returns
    -------
    splits : dict of split -> list of (time, region) arrays
    shares : dict of split -> float
        Of the degrees of freedom within the band, what the confounds leave.
    """
    cleaned, left = [], []
    for at, (run, one) in enumerate(zip(runs, confounds, strict=True)):
        x, share = np.where(one.kept[:, None], run, np.nan), np.ones(len(run))
        for start, stop in (p[1:] for p in (*pieces["train"], *pieces["test"]) if p.run == at):
            x[start:stop], share[start:stop] = remove_in_band(
                x[start:stop], one.values[start:stop], tr, signal_config["band"]
            )
        cleaned.append(x)
        left.append(np.where(observed(x), share, np.nan)[:, None])  # a line a frame, cut as the recording is
    found, shares = (
        {name: segments_of(one, pieces[name]) for name in ("train", "validation", "test")}
        for one in (cleaned, left)
    )
    return found, {name: float(np.nanmean(np.concatenate(parts))) for name, parts in shares.items()}
