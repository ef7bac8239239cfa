"""Confounds and scrubbing before cross-spectra of BOLD: what is removed, and the degrees of freedom that are left."""

import json

import fmri_files as files
import numpy as np
import pytest
from electric_cohort import ATLAS, FRAMES, write_electric_cohort

from brainloom.analysis.clean import detrend_only
from brainloom.analysis.cross_spectra import multitaper_csd
from brainloom.analysis.denoise import remove_confounds
from brainloom.analysis.denoise_spectra import remove_in_band, spectral_splits
from brainloom.analysis.meeg_dataset import bold_cross_spectra
from brainloom.cohort.settings import settings_json
from brainloom.core.config import validate_config
from brainloom.io.confounds import Confounds
from brainloom.io.parts import Piece
from brainloom.steps import preprocess_signal
from brainloom.store import read_dataset

N, TR, BAND = 300, 2.0, (0.01, 0.1)
SETTINGS = {"band": list(BAND)}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape)


def power(x: np.ndarray) -> np.ndarray:
    """Raw periodogram at the frequencies of the band, (f, region)."""
    few = np.split(detrend_only(x), range(50, x.shape[1], 50), axis=1)
    csd = [multitaper_csd(part, 1 / TR, BAND, 0.5 / (N * TR)).csd for part in few]
    return np.concatenate([np.einsum("fii->fi", one).real for one in csd], axis=1)


def freedom(spectra: np.ndarray) -> float:
    """Complex degrees of freedom of the power in the band of independent regions: mean^2 / variance."""
    total = spectra.sum(axis=0)
    return float(total.mean() ** 2 / total.var())


@pytest.mark.parametrize("count", [6, 24])
def test_the_share_is_that_of_power_and_of_degrees_of_freedom(count):
    x = noise(N, 3000)
    cleaned, share = remove_in_band(x, noise(N, count, 1)[:, :, 0], TR, BAND)
    assert share == pytest.approx(1 - count / (2 * 55))  # 0.01 to 0.1 Hz holds 55 frequencies 1/600 Hz apart
    before, after = power(x), power(cleaned)
    # 3000 regions with 55 frequencies: 0.25 % of a standard error
    assert after.mean() / before.mean() == pytest.approx(share, rel=0.01)
    # relative standard error of a variance from 3000 regions: 2.6 %, of which the same noise takes away a part
    assert freedom(after) / freedom(before) == pytest.approx(share, rel=0.06)


def test_confounds_explain_nothing_that_is_left_in_the_band():
    confounds = noise(N, 5)
    cleaned, _ = remove_in_band(
        noise(N, 4, 1)[:, :, 0] + confounds @ noise(5, 4) + 100.0, confounds, TR, BAND
    )
    np.testing.assert_allclose(cleaned.mean(axis=0), 100.0, atol=1.0)
    left, known = (np.fft.rfft(detrend_only(one), axis=0)[6:61] for one in (cleaned, confounds))
    # the detrending afterwards moves coefficients by less than 1 % of sqrt(55 * 300) each
    assert np.abs((known.conj().T @ left).real).max() < 0.01 * 55 * N


def test_slow_confounds_do_not_leak_into_the_band():
    """Drifts of a head, a random walk: multiples of them that fit the band would add power to its lowest frequencies."""
    x, drift = noise(N, 2000), noise(N, 12).cumsum(axis=0)
    plain, whole = power(x), power(remove_confounds(x, drift, TR, band=BAND))
    inside = power(remove_in_band(x, drift, TR, BAND)[0])
    assert whole[0].mean() > 1.5 * plain[0].mean()  # why cross-spectra need another regression than FC
    assert (inside.mean(axis=1) < 1.05 * plain.mean(axis=1)).all()


def test_splits_know_what_cleaning_left():
    kept = np.ones(N, bool)
    kept[20:50] = False
    run, values = noise(N, 3) + 50.0, noise(N, 4)
    pieces = {"train": [Piece(0, 0, 150)], "validation": [Piece(0, 100, 150)], "test": [Piece(0, 150, 300)]}
    splits, shares = spectral_splits([run], [Confounds(list("abcd"), values, kept)], TR, SETTINGS, pieces)
    assert [sum(map(len, splits[name])) for name in ("train", "validation", "test")] == [150, 50, 150]
    assert np.isnan(splits["train"][0][20:50]).all() and np.isfinite(splits["test"][0]).all()
    # 27 frequencies 1/300 Hz apart, from 0.01 to 0.1 Hz with both ends: 28
    assert shares == pytest.approx(dict.fromkeys(("train", "validation", "test"), 1 - 4 / 56))
    expected = remove_in_band(np.where(kept[:, None], run, np.nan)[:150], values[:150], TR, BAND)[0]
    np.testing.assert_array_equal(splits["train"][0], expected)
    ds = bold_cross_spectra(splits, TR, BAND, 0.02, list("abc"), shares)
    tapers = multitaper_csd(run[150:], 1 / TR, BAND, 0.02).n_tapers
    assert tapers == 5
    np.testing.assert_allclose(
        ds["bold_csd_n"].sel(split=["train", "test"]), tapers * 52 / 56 * np.array([0.8, 1])
    )
    part = splits["test"][0]
    raw = multitaper_csd(detrend_only(part / part.mean(axis=0)), 1 / TR, BAND, 0.02).csd
    np.testing.assert_allclose(ds["bold_csd"].sel(split="test"), raw / (52 / 56), rtol=1e-12)
    # without confounds only frames count, without either the number of tapers is a whole one
    only = bold_cross_spectra({**splits, "test": [run[150:]]}, TR, BAND, 0.02, list("abc"))
    assert float(only["bold_csd_n"].sel(split="train")) == pytest.approx(0.8 * tapers)
    whole = {name: [run[:150]] for name in splits}
    assert bold_cross_spectra(whole, TR, BAND, 0.02, list("abc"))["bold_csd_n"].dtype == np.int64


def test_the_signal_step_counts_them(tmp_path, monkeypatch):
    write_electric_cohort(tmp_path / "cohort", ["01"], kinds=("bold",))
    table = tmp_path / "cohort/sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv"
    files.save_confounds(table, files.confound_columns(FRAMES, seed=3))
    study = {
        "study": "electric",
        "input": {"path": "cohort", "atlas": ATLAS},
        "model": {"name": "JansenRitStep"},
        "fit": {"route": "spectrum", "parameters": {"k": {}}},
        "modality": ["bold"],
        "signal": {"confounds": {"motion": 6}},
    }
    monkeypatch.chdir(tmp_path)
    settings = settings_json(validate_config(study), "preprocess_signal")
    words = ["--input", "cohort", "--subject", "01", "--output", "one.zarr.zip", "--params", settings]
    assert preprocess_signal.main(words) == 0
    ds = read_dataset(tmp_path / "one.zarr.zip")
    assert ds.attrs["status"] == "ok" and json.loads(ds.attrs["confounds"]) == files.MOTION
    n = float(ds["bold_csd_n"].sel(split="train"))
    frequencies = ds.sizes["bold_csd_frequency"]
    assert n == pytest.approx(1 - 6 / (2 * frequencies))
    assert np.isfinite(ds["bold_csd"].sel(split=["train", "test"])).all()
