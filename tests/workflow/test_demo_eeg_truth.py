"""The known parameters of the demo of BOLD and EEG come back, and EEG makes them certain: whole recordings, both ways."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import brainloom.models  # noqa: F401  before brainstate, which resets the precision
from brainloom.analysis.cross_spectra import multitaper_csd
from brainloom.analysis.meeg_dataset import component_basis
from brainloom.fit.spectral import fit_subject_spectral, posterior_spectral
from brainloom.io import bids
from brainloom.io.meeg import load_meeg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo-eeg"
ATLAS, TASK, SUBJECTS = "demo20", "rest", ("01", "02", "03")
# Prior means that are nobody's truth, but for the default of b, and wide priors: a factor of 1.65 each way.
PRIORS = {
    "k": {"start": 20.0, "prior_sd": 0.5},
    "b": {"start": 50.0, "prior_sd": 0.5},
    "speed": {"start": 7.0, "prior_sd": 0.5},
    # given: spectra hold it only as a product with the gains
    "noise": {"start": 25.0, "prior_sd": 1e-6},
}


def config(*modality: str) -> dict:
    coupling = {"kind": "additive", "source": "source", "port": None}
    return {
        "modality": list(modality),
        "model": {"name": "JansenRitStep", "parameters": {"C": 117.0, "p": 140.0}, "coupling": coupling},
        "fit": {"parameters": PRIORS, "objective": {}, "starts": 3, "control_starts": 1, "max_steps": 60},
        "signal": {"band": [0.01, 0.1], "filter_order": 2},
        "identify": {"level": 0.9},
        "seed": 1,
    }


def datasets(subject: str) -> tuple[xr.Dataset, xr.Dataset]:
    """Connectome and cross-spectra of everything that was recorded of a subject."""
    files = bids.subject_files(DEMO, subject, ATLAS, TASK)
    atlas = bids.read_atlas(files["atlas"])
    labels = np.array(atlas.labels, dtype=str)
    weights, lengths, bold = (
        np.loadtxt(path, skiprows=skip)
        for path, skip in ((files["weight"], 0), (files["length"], 0), (files["bold"][0], 1))
    )
    tr = bids.read_repetition_time(DEMO, files["bold"][0])
    settings = {
        "space": "sensor",
        "reference": "average",
        "lead_field": "sphere",
        "montage": None,
        "band": [1.0, 40.0],
    }
    eeg = load_meeg(DEMO, subject, TASK, "eeg", settings, atlas=atlas, atlas_label=ATLAS)
    basis = component_basis(eeg.lead_field, len(eeg.channels))
    fast = multitaper_csd(eeg.runs[0] @ basis, eeg.sampling_frequency, (1.0, 40.0), 0.5)
    slow = multitaper_csd(bold / bold.mean(axis=0) - 1.0, 1.0 / tr, (0.01, 0.2), 0.01)
    pair = ("region", "region_to")
    connectome = xr.Dataset(
        {"weights": (pair, weights / weights.sum(axis=1).mean()), "lengths": (pair, lengths)},
        coords={"region": labels, "region_to": labels},
        attrs={"subject": subject},
    )
    signal = xr.Dataset(
        {
            "bold_csd": (("split", "bold_csd_frequency", *pair), slow.csd[None]),
            "bold_csd_n": ("split", [slow.n_tapers]),
            "eeg_csd": (("split", "eeg_csd_frequency", "eeg_component", "eeg_component_to"), fast.csd[None]),
            "eeg_csd_n": ("split", [fast.n_tapers]),
            "eeg_basis": (("eeg_sensor", "eeg_component"), basis),
            "eeg_lead_field": (("eeg_sensor", "region"), eeg.lead_field),
        },
        coords={
            "split": ["train"],
            "region": labels,
            "region_to": labels,
            "eeg_sensor": np.array(eeg.channels, dtype=str),
            "bold_csd_frequency": slow.frequency,
            "eeg_csd_frequency": fast.frequency,
            "frequency": np.arange(65) / 256.0,
            "eeg_frequency": np.arange(1.0, 40.5, 0.5),
        },
        attrs={
            "subject": subject,
            "repetition_time": tr,
            "eeg_sampling_frequency": eeg.sampling_frequency,
            "eeg_reference": eeg.reference,
            "eeg_unit": eeg.unit,
            "eeg_space": "sensor",
        },
    )
    return connectome, signal


@pytest.fixture(scope="module")
def posteriors():
    """Posterior of each subject with BOLD alone and with both."""
    found: dict = {}
    for subject in SUBJECTS:
        connectome, signal = datasets(subject)
        for modality in (("bold",), ("bold", "eeg")):
            settings = config(*modality)
            fit = fit_subject_spectral(subject, connectome, signal, None, settings, None)
            assert bool(fit["converged"].sel(predictor="model")[int(fit["best_start"][0])])
            found[subject, modality] = posterior_spectral(connectome, signal, fit, settings).isel(region=0)
    return found


@pytest.fixture(scope="module")
def truth():
    """True values by subject and parameter."""
    with open(DEMO / "truth.tsv", newline="") as file:
        return {
            (row["subject"], row["parameter"]): float(row["value"])
            for row in csv.DictReader(file, delimiter="\t")
        }


def width(posterior: xr.Dataset, name: str) -> float:
    return float((posterior["upper"] - posterior["lower"]).sel(parameter=name))


def covers(posterior: xr.Dataset, name: str, value: float) -> bool:
    found = posterior.sel(parameter=name)
    return bool(found["lower"] <= value) and bool(value <= found["upper"])


def test_the_inhibitory_rate_is_three_times_more_certain_with_eeg_and_covers_the_truth(posteriors, truth):
    for subject in SUBJECTS:
        alone, both = (posteriors[subject, name] for name in (("bold",), ("bold", "eeg")))
        assert width(alone, "b") >= 3.0 * width(both, "b"), subject
        assert covers(both, "b", truth[subject, "b"]), subject
        assert covers(alone, "b", truth[subject, "b"]), subject
        assert str(both["identified"].sel(parameter="b").values) == "yes"


def test_coupling_and_conduction_speed_are_found_by_eeg(posteriors, truth):
    for subject in SUBJECTS:
        alone, both = (posteriors[subject, name] for name in (("bold",), ("bold", "eeg")))
        for name in ("k", "speed"):
            assert width(alone, name) >= 3.0 * width(both, name), (subject, name)
        assert str(alone["identified"].sel(parameter="speed").values) == "no"
    for name in ("k", "speed"):
        estimates = [
            float(posteriors[subject, ("bold", "eeg")]["estimate"].sel(parameter=name))
            for subject in SUBJECTS
        ]
        true = [truth[subject, name] for subject in SUBJECTS]
        assert np.argsort(estimates).tolist() == np.argsort(true).tolist()
        # widest posterior: an sd of 8 %; three of them
        np.testing.assert_allclose(estimates, true, rtol=0.24)


def test_intervals_cover_the_truth_about_as_often_as_they_say(posteriors, truth):
    covered = [
        covers(posterior, name, truth[subject, name])
        for (subject, _), posterior in posteriors.items()
        for name in map(str, posterior["parameter"].values)
    ]
    assert len(covered) == 36
    # of 36 intervals of 90 % fewer than 27 cover with a probability of 0.3 %, if they were independent
    assert np.mean(covered) >= 0.75
