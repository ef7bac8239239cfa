"""The features of BOLD: one function for recordings and for simulations, so that both meet in the same pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from brainloom.analysis.clean import (
    bandpass,
    detrend_only,
    observed,
    remove_global_signal,
    without,
    zscore,
)
from brainloom.analysis.dof import effective_dof
from brainloom.analysis.fc import average_correlations, functional_connectivity, lagged_correlation
from brainloom.analysis.fcd import fcd_segments, window_frames
from brainloom.analysis.spectra import welch_psd
from brainloom.analysis.synchrony import metastability


def relative_variance(x: np.ndarray, tr: float, signal_config: Mapping[str, Any]) -> np.ndarray:
    """Variance of the band-passed series of one segment, divided by its mean over regions.

    Parameters
    ----------
    x : (time, region) array
    tr : float
        Repetition time in s.
    signal_config : mapping
        Section `signal` of the configuration.

    Returns
    -------
    (region,) float64 array with mean 1 (zeros when nothing varies).
    """
    return _relative_variance(_filtered(x, tr, signal_config))


def _filtered(x: np.ndarray, tr: float, signal_config: Mapping[str, Any]) -> np.ndarray:
    """The band-passed series of one segment, without its scrubbed frames."""
    filtered = bandpass(x, tr, band=signal_config["band"], order=signal_config["filter_order"])
    filtered = without(filtered, observed(x))
    return remove_global_signal(filtered) if signal_config["global_signal_regression"] else filtered


def _relative_variance(filtered: np.ndarray) -> np.ndarray:
    variance = filtered.var(axis=0)
    mean = variance.mean()
    return variance / mean if mean > 0 else variance


def features(
    segments: np.ndarray | Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any]
) -> dict[str, Any]:
    """Clean every segment on its own and compute its features; average over segments, weighted by frames.

    Correlations are averaged in Fisher z, variances and spectra as they are; windows of FCD never cross segments.
    Scrubbed frames (lines of NaN) are filled for filters and spectra, and count in nothing else.

    Parameters
    ----------
    segments : (time, region) array or sequence of them
        Raw series, lines of NaN for scrubbed frames.
    tr : float
        Repetition time in s.
    signal_config : mapping
        Section `signal` of the configuration: `band` (Hz), `filter_order`, `global_signal_regression`,
        `fcd_window`, `fcd_step` (s), `psd_window` (frames).

    Returns
    -------
    dict with

    - ``fc``, ``lag1`` : (region, region); lag1[i, j] = corr(x_i(t + 1), x_j(t))
    - ``fcd`` : (window, window_to), NaN between windows of different segments
    - ``psd`` : (region, frequency), 1/Hz, of the detrended, unfiltered, z-scored series
    - ``frequency`` : (frequency,), Hz
    - ``variance`` : (region,), of the band-passed series, relative to the mean over regions
    - ``metastability`` : float, standard deviation of the order parameter of phases at 0.04-0.07 Hz
    - ``n_frames`` : int, without the scrubbed ones
    - ``effective_dof`` : float (Bartlett), summed over segments
    """
    parts = _prepared(segments, tr, signal_config)
    return (
        _second_order(parts, tr, signal_config)
        | _dynamic(parts, tr, signal_config)
        | {
            "n_frames": sum(parts.frames),
            "effective_dof": float(sum(effective_dof(x) for x in parts.cleaned)),
        }
    )


def second_order_features(
    segments: np.ndarray | Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """``fc, lag1, psd, frequency, variance`` alone, as `features` computes them."""
    return _second_order(_prepared(segments, tr, signal_config), tr, signal_config)


def dynamic_features(
    segments: np.ndarray | Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any]
) -> dict[str, Any]:
    """``fcd, metastability`` alone, as `features` computes them."""
    return _dynamic(_prepared(segments, tr, signal_config), tr, signal_config)


def fc_of_part(
    segments: Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any]
) -> tuple[np.ndarray, float]:
    """FC and effective degrees of freedom alone, as `features` computes them, of parts too short for the others.

    Parameters
    ----------
    segments, tr, signal_config
        See `features`.

    Returns
    -------
    (region, region) array, float
    """
    parts = _prepared(segments, tr, signal_config)
    return _fc(parts), float(sum(effective_dof(x) for x in parts.cleaned))


class _Parts(NamedTuple):
    """Segments as they are, their frames that count, band-passed, and standardised."""

    raw: list[np.ndarray]
    frames: list[int]
    filtered: list[np.ndarray]
    cleaned: list[np.ndarray]


def _prepared(
    segments: np.ndarray | Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any]
) -> _Parts:
    given = [segments] if isinstance(segments, np.ndarray) and segments.ndim == 2 else list(segments)
    raw = [np.asarray(part, dtype=np.float64) for part in given]
    filtered = [_filtered(part, tr, signal_config) for part in raw]
    cleaned = [_standardised(x, observed(part)) for x, part in zip(filtered, raw, strict=True)]
    return _Parts(raw, [int(observed(part).sum()) for part in raw], filtered, cleaned)


def _second_order(parts: _Parts, tr: float, signal_config: Mapping[str, Any]) -> dict[str, Any]:
    frames = parts.frames
    spectra = [welch_psd(zscore(detrend_only(part)), tr, signal_config["psd_window"]) for part in parts.raw]
    return {
        "fc": _fc(parts),
        "lag1": average_correlations([lagged_correlation(x) for x in parts.cleaned], frames),
        "psd": np.average([psd for _, psd in spectra], axis=0, weights=frames),
        "frequency": spectra[0][0],
        "variance": np.average([_relative_variance(x) for x in parts.filtered], axis=0, weights=frames),
    }


def _dynamic(parts: _Parts, tr: float, signal_config: Mapping[str, Any]) -> dict[str, Any]:
    window, step = (window_frames(signal_config[key], tr) for key in ("fcd_window", "fcd_step"))
    phases = [metastability(part, tr) for part in parts.raw]
    return {
        "fcd": fcd_segments(parts.cleaned, window, step),
        "metastability": float(np.average(phases, weights=parts.frames)),
    }


def _standardised(filtered: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Filtered frames scaled as `brainloom.analysis.clean.clean` does, lines of NaN for those that were scrubbed."""
    if kept.all():
        return zscore(filtered)
    cleaned = np.full((len(kept), filtered.shape[1]), np.nan)
    cleaned[kept] = zscore(filtered)
    return cleaned


def _fc(parts: _Parts) -> np.ndarray:
    each = [functional_connectivity(without(x, observed(x))) for x in parts.cleaned]
    return average_correlations(each, parts.frames)
