"""What every reader of EEG, MEG or source activity returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.tables import who


@dataclass(frozen=True)
class Recording:
    """One run of EEG, MEG or source activity.

    Attributes
    ----------
    data : (time, sensor) float64 array, in V (EEG, iEEG), T (magnetometers), T/m (planar gradiometers) or `unit`.
    sampling_frequency : float, Hz.
    sensors : list of str, (sensor,); regions for source activity.
    kinds : list of str, (sensor,): ``eeg``, ``mag``, ``grad``, ``seeg``, ``ecog``, ``dbs`` or ``source``.
    info : mne.Info of these sensors with their positions; None for source activity.
    reference : str: ``average``, the name of an electrode, or what the sidecar says of the reference as recorded;
        ``none`` for MEG and sources.
    bads : list of str, channels marked bad, whether dropped, interpolated or kept.
    path : Path of the file.
    unit : str, of EEG ``V``, of MEG ``T`` (gradiometers T/m), of sources as the file says.
    spans : (n, 2) int array, first sample and one past the last of each uninterrupted stretch without a bad mark.
    """

    data: np.ndarray
    sampling_frequency: float
    sensors: list[str]
    kinds: list[str]
    info: Any
    reference: str
    bads: list[str]
    path: Path
    unit: str = "V"
    spans: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))

    def __post_init__(self) -> None:
        if not len(self.spans):
            object.__setattr__(self, "spans", np.array([[0, len(self.data)]]))

    def segments(self, minimum: float = 0.0) -> list[np.ndarray]:
        """Uninterrupted stretches of the data that last at least `minimum` seconds, each (time, sensor).

        Raises
        ------
        DataError
            If none is that long.
        """
        shortest = minimum * self.sampling_frequency * (1 - 1e-9)
        found = [self.data[start:stop] for start, stop in self.spans if stop - start >= max(1.0, shortest)]
        if not found:
            longest = max((stop - start for start, stop in self.spans), default=0) / self.sampling_frequency
            raise DataError(
                f"{self.path}: {who(self.path)}the longest stretch without a bad mark lasts {longest:.3g} s; "
                f"at least {minimum:g} s are needed"
            )
        return found
