"""A small cohort with EEG, MEG or source series beside BOLD: damped 10 Hz rhythms of regions through a sphere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainloom.io import bids
from brainloom.io.reading import read_atlas
from brainloom.io.simulated import write_bids_derivative, write_bids_recording

LABELS = ["V1_L", "V1_R", "M1_L", "M1_R", "F1_L", "F1_R"]
CENTRES = np.array(
    [[-12, -88, 4], [12, -88, 4], [-40, -20, 52], [40, -20, 52], [-36, 40, 20], [36, 40, 20]], dtype=float
)
ELECTRODES = ["Fp1", "Fp2", "C3", "C4", "P3", "P4", "O1", "O2"]
RATE, SECONDS, TR, FRAMES = 100.0, 60.0, 2.0, 300
ATLAS = "six"
EEG = {
    "space": "sensor",
    "band": [1.0, 40.0],
    "window": 2.0,
    "method": "welch",
    "envelope_band": [8.0, 13.0],
    "bandwidth": 1.0,
    "reference": "average",
    "lead_field": "sphere",
    "montage": "colin27_1020",
}


def rhythm(
    rng: np.random.Generator, n: int, rate: float, frequency: float = 10.0, damping: float = 15.0
) -> np.ndarray:
    """Noise through a resonance: (n, region), unit standard deviation."""
    from scipy.signal import lfilter

    w, h = 2 * np.pi * frequency, 1 / rate
    r = np.exp(-0.5 * damping * h)
    x = lfilter([1.0], [1.0, -2 * r * np.cos(w * h), r * r], rng.normal(size=(n + 500, len(LABELS))), axis=0)[
        500:
    ]
    return x / x.std(axis=0)


def sources(subject: str, n: int = round(SECONDS * RATE)) -> np.ndarray:
    """Activity of the regions; half of it is common."""
    rng = np.random.default_rng([5, int(subject)])
    common = rhythm(rng, n, RATE)[:, :1]
    return 0.7 * rhythm(rng, n, RATE) + 0.7 * common


def lead_field(reference: str | None = "average"):
    """Of the electrodes, as the study makes it."""
    from brainloom.io.lead_fields import sphere_lead_field

    return sphere_lead_field(CENTRES, sensors=ELECTRODES, regions=LABELS, reference=reference)


def write_electric_cohort(
    root: Path, subjects: Sequence[str], *, kinds: Sequence[str] = ("bold", "eeg"), bold_mean: float = 1000.0
) -> None:
    """Write good subjects: ``bold``, ``eeg`` (FIF at electrodes), ``source`` (one series a region, in eeg/)."""
    for subject in subjects:
        rng = np.random.default_rng([9, int(subject)])
        half = np.triu(rng.uniform(0.1, 1, (6, 6)), 1)
        distance = np.linalg.norm(CENTRES[:, None] - CENTRES[None], axis=-1)
        for measure, matrix in (("weight", half + half.T), ("length", np.round(distance, 2))):
            bids.write_relmat(bids.relmat_path(root, subject, atlas=ATLAS, measure=measure), matrix)
        if "bold" in kinds:
            run = bids.timeseries_path(root, subject, task="rest", atlas=ATLAS)
            slow = np.cumsum(rng.normal(size=(FRAMES + 40, 6)), axis=0)
            slow = (
                slow[40:]
                - np.apply_along_axis(lambda x: np.convolve(x, np.ones(40) / 40, "same"), 0, slow)[40:]
            )
            bids.write_timeseries(run, bold_mean * (1 + 0.01 * slow / slow.std()), LABELS, TR)
        activity = 20e-9 * sources(subject)
        if "eeg" in kinds:
            noise = 1e-7 * np.random.default_rng([8, int(subject)]).normal(
                size=(len(activity), len(ELECTRODES))
            )
            seen = activity @ lead_field(None).gain.T + noise
            write_bids_recording(root, subject, seen, RATE, ELECTRODES, positions="colin27_1020", task="rest")
        if "source" in kinds:
            write_bids_derivative(
                root,
                subject,
                activity * 1e9,
                LABELS,
                1 / RATE,
                atlas=ATLAS,
                kind="eeg",
                task="rest",
                unit="nA*m",
            )
    bids.write_atlas(bids.atlas_path(root, ATLAS), LABELS, coordinates=CENTRES)
    bids.write_participants(root, subjects)
    bids.write_description(root, name="electric")


def atlas(root: Path):
    return read_atlas(bids.atlas_path(root, ATLAS))
