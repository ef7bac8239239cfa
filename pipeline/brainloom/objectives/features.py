"""Precomputed features: what an objective takes instead of a signal, named by its type and never by its shape."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax

_META = {"static": True}
T = TypeVar("T")


class Feature:
    """Base of all features. Each is a pytree, so it passes through ``jit``, ``vmap`` and `Fitter`."""


def _feature(cls: type[T]) -> type[T]:
    """A frozen dataclass that is a pytree; fields with ``metadata=_META`` are part of its structure."""
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    static = [field.name for field in fields if field.metadata]
    jax.tree_util.register_dataclass(cls, [f.name for f in fields if f.name not in static], static)
    return cls


@_feature
class FC(Feature):
    """Functional connectivity: Pearson correlations.

    Parameters
    ----------
    matrix : (..., region, region) array
    """

    matrix: Any


@_feature
class LaggedFC(Feature):
    """Lagged correlations ``C[i, j] = corr(x_i(t + lag), x_j(t))``.

    Parameters
    ----------
    matrix : (..., region, region) array
    lag : int
        Samples.
    """

    matrix: Any
    lag: int = dataclasses.field(default=1, metadata=_META)


@_feature
class FCD(Feature):
    """Functional connectivity dynamics: correlations between the FC of windows.

    Parameters
    ----------
    matrix : (..., window, window_to) array
        NaN between windows that were not compared, such as those of different recordings.
    window, step : int, optional
        Samples. If given, they must be those of the objective.
    """

    matrix: Any
    window: int | None = dataclasses.field(default=None, metadata=_META)
    step: int | None = dataclasses.field(default=None, metadata=_META)


@_feature
class Covariance(Feature):
    """Covariance of a signal.

    Parameters
    ----------
    matrix : (..., region, region) array or Quantity
    dof : number, optional
        Effective degrees of freedom of the sample.
    """

    matrix: Any
    dof: Any = None


@_feature
class CSD(Feature):
    """Cross-spectral density, two-sided: its integral over all frequencies is the covariance.

    Parameters
    ----------
    frequency : (frequency,) array
        Hz.
    values : (frequency, region, region) complex array or Quantity
    n_tapers : number or (frequency,) array, optional
        Independent estimates that were averaged.
    """

    frequency: Any
    values: Any
    n_tapers: Any = None


@_feature
class PSD(Feature):
    """Power spectral density, one-sided.

    Parameters
    ----------
    frequency : (frequency,) array
        Hz, rising.
    values : (..., region, frequency) array or Quantity
        Unit of the signal squared per Hz.
    """

    frequency: Any
    values: Any


@_feature
class BandPower(Feature):
    """Power in frequency bands.

    Parameters
    ----------
    values : (..., region, band) array or Quantity
        Shares of the total where the objective compares relative power.
    """

    values: Any


@_feature
class PeakFrequency(Feature):
    """Frequency of the spectral peak.

    Parameters
    ----------
    values : (..., region) array
        Hz; NaN in a region without a peak, which is left out.
    """

    values: Any


@_feature
class EnvelopeFC(Feature):
    """Correlations of amplitude envelopes.

    Parameters
    ----------
    matrix : (..., region, region) array
        Only what is above the diagonal is read.
    """

    matrix: Any


@_feature
class ERP(Feature):
    """Event-related average.

    Parameters
    ----------
    values : (time, region) array or Quantity
        At the samples of the objective's window.
    """

    values: Any


@_feature
class Level(Feature):
    """Mean over time.

    Parameters
    ----------
    values : (..., region) array or Quantity
    """

    values: Any


@_feature
class Amplitude(Feature):
    """Standard deviation over time.

    Parameters
    ----------
    values : (..., region) array or Quantity
    """

    values: Any


@_feature
class Variance(Feature):
    """Variance over time.

    Parameters
    ----------
    values : (..., region) array or Quantity
    """

    values: Any


@_feature
class Synchrony(Feature):
    """Mean over time of the Kuramoto order parameter.

    Parameters
    ----------
    value : number
    """

    value: Any


@_feature
class Metastability(Feature):
    """Standard deviation over time of the Kuramoto order parameter.

    Parameters
    ----------
    value : number
    """

    value: Any


@_feature
class Normal(Feature):
    """A prediction with its own uncertainty, so that the noise can be fitted.

    Parameters
    ----------
    mean : (time, ..., region) array or Quantity
    sd : number, array or Quantity
        Standard deviation of the noise; broadcasts against `mean`.
    """

    mean: Any
    sd: Any
