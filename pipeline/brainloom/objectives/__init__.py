"""
Differentiable objectives: how far a prediction is from the data, as one number.

Every function here is called to get an objective, ``objective(prediction, target) -> number``, for `Fitter` or for a
loss of your own. Signals are plain arrays or quantities (time, ..., region); anything precomputed is wrapped in the type
of the feature that it is, such as ``FC(matrix)``. Types are never guessed from a shape.

>>> import numpy as np
>>> from brainloom import objectives
>>> x = np.random.default_rng(0).normal(size=(300, 6))
>>> loss = objectives.combine((1.0, objectives.fc_corr(as_loss=True)), (0.5, objectives.fc_rmse()))
>>> float(loss(x, objectives.FC(np.corrcoef(x.T)))) < 1e-3
True
"""

from brainloom.objectives.base import Objective
from brainloom.objectives.combining import combine, on
from brainloom.objectives.connectivity import fc_corr, fc_rmse, lagged_fc
from brainloom.objectives.dynamics import fcd, fcd_ks, fcd_wasserstein
from brainloom.objectives.envelope import envelope_fc
from brainloom.objectives.events import erp
from brainloom.objectives.features import (
    CSD,
    ERP,
    FC,
    FCD,
    PSD,
    Amplitude,
    BandPower,
    Covariance,
    EnvelopeFC,
    Feature,
    LaggedFC,
    Level,
    Metastability,
    Normal,
    PeakFrequency,
    Synchrony,
    Variance,
)
from brainloom.objectives.likelihood import cross_spectra, gaussian, whittle, wishart
from brainloom.objectives.series import cosine_sim, timeseries_rmse
from brainloom.objectives.spectra import band_power, psd_log, spectral_peak
from brainloom.objectives.summaries import amplitude, level, variance
from brainloom.objectives.synchrony import metastability, synchrony

__all__ = [
    "CSD",
    "ERP",
    "FC",
    "FCD",
    "PSD",
    "Amplitude",
    "BandPower",
    "Covariance",
    "EnvelopeFC",
    "Feature",
    "LaggedFC",
    "Level",
    "Metastability",
    "Normal",
    "Objective",
    "PeakFrequency",
    "Synchrony",
    "Variance",
    "amplitude",
    "band_power",
    "combine",
    "cosine_sim",
    "cross_spectra",
    "envelope_fc",
    "erp",
    "fc_corr",
    "fc_rmse",
    "fcd",
    "fcd_ks",
    "fcd_wasserstein",
    "gaussian",
    "lagged_fc",
    "level",
    "metastability",
    "on",
    "psd_log",
    "spectral_peak",
    "synchrony",
    "timeseries_rmse",
    "variance",
    "whittle",
    "wishart",
]
