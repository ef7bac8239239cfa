"""Confounds leave the band, scrubbed frames leave everything, and nothing else goes with them."""

from __future__ import annotations

from itertools import pairwise

import fmri_files as files
import numpy as np
import pytest

from brainloom.analysis.clean import bandpass, clean, fill_censored, observed
from brainloom.analysis.denoise import denoise_runs, remove_confounds
from brainloom.analysis.dof import effective_dof
from brainloom.analysis.fc import lagged_correlation
from brainloom.analysis.fcd import fcd
from brainloom.analysis.features import features
from brainloom.analysis.signal_dataset import signal_dataset, stored_splits
from brainloom.core.errors import DataError
from brainloom.io.confounds import choose_columns, read_confounds, scrubbed_frames

TR, BAND = 0.8, (0.01, 0.1)
SIGNAL = {
    "tr": None,
    "band": list(BAND),
    "filter_order": 2,
    "drop_frames": 0,
    "splits": "halves",
    "global_signal_regression": False,
    "fcd_window": 40.0,
    "fcd_step": 8.0,
    "psd_window": 128,
}


def walks(frames, columns, seed):
    return np.random.default_rng(seed).normal(size=(frames, columns)).cumsum(axis=0)


def in_band(x):
    return bandpass(x, TR, band=BAND)[observed(x)]


def largest_correlation(a, b):
    return np.abs(np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]).max()


@pytest.mark.parametrize("scrubbed", [[], [0, 40, 41, 42, 150, 399]])
def test_planted_confounds_go_and_the_planted_signal_stays(scrubbed):
    """In the band nothing of the confounds is left (rounding: 1e-10), and 4 of about 58 degrees of freedom of the signal."""
    planted, confounds = walks(400, 5, 0), walks(400, 4, 1) * [1, 50, 1e-3, 1]
    mixed = (
        planted
        + confounds @ (np.random.default_rng(2).normal(size=(4, 5)) * [[3], [0.1], [2000], [1]])
        + 1000
    )
    for x in (planted, mixed):
        x[scrubbed] = np.nan
    seen = np.where(observed(mixed)[:, None], confounds, np.nan)
    assert largest_correlation(in_band(mixed), in_band(seen)) > 0.5
    confounds[scrubbed] = 1e12  # what it says there does not matter
    found = remove_confounds(mixed, confounds, TR, band=BAND)
    assert largest_correlation(in_band(found), in_band(seen)) < 1e-10
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(in_band(found).T, in_band(planted).T, strict=True)]
    assert min(same) > 0.85
    # exactly what the regression of the planted signal alone leaves
    alone = remove_confounds(planted, confounds, TR, band=BAND)
    np.testing.assert_allclose(in_band(found), in_band(alone), atol=1e-8 * np.nanstd(mixed))
    np.testing.assert_allclose(np.nanmean(found, axis=0), np.nanmean(mixed, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(observed(found), observed(mixed))


def test_regression_before_the_filter_would_bring_confounds_back():
    """Lindquist et al. 2019: the reason why the coefficients are those of the band."""
    x, confounds = walks(400, 5, 3), walks(400, 3, 4)
    design = np.column_stack([np.ones(400), confounds])
    first = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    assert largest_correlation(in_band(first), in_band(confounds)) > 0.05
    assert (
        largest_correlation(in_band(remove_confounds(x, confounds, TR, band=BAND)), in_band(confounds))
        < 1e-10
    )


def test_result_in_the_band_is_that_of_nilearn():
    """Same filter (order 2, padding of 15 frames), same detrending: to 1e-8 of the standard deviation."""
    from nilearn.signal import clean as nilearn_clean

    x, confounds = walks(300, 4, 5), walks(300, 6, 6)
    with pytest.warns(DeprecationWarning):
        wanted = nilearn_clean(
            x.copy(),
            confounds=confounds.copy(),
            t_r=TR,
            high_pass=BAND[0],
            low_pass=BAND[1],
            standardize=None,
            butterworth__order=2,
            butterworth__padlen=15,
        )
    found = in_band(remove_confounds(x, confounds, TR, band=BAND))
    np.testing.assert_allclose(
        found - found.mean(axis=0), wanted - wanted.mean(axis=0), atol=1e-8 * wanted.std()
    )


def test_confounds_that_say_nothing_change_nothing():
    x = walks(200, 3, 7)
    np.testing.assert_array_equal(remove_confounds(x, np.zeros((200, 0)), TR, band=BAND), x)
    np.testing.assert_array_equal(remove_confounds(x, np.full((200, 2), 5.0), TR, band=BAND), x)
    same = walks(200, 1, 8)
    once = remove_confounds(x, same, TR, band=BAND)
    twice = remove_confounds(x, np.hstack([same, 2 * same, np.arange(200)[:, None]]), TR, band=BAND)
    np.testing.assert_allclose(in_band(twice), in_band(once), atol=1e-8)  # repeated columns, and a trend
    with pytest.raises(ValueError, match="confounds have 199 frames; the segment has 200"):
        remove_confounds(x, same[1:], TR)
    same[3] = np.nan
    with pytest.raises(ValueError, match="no number in a frame that was not scrubbed"):
        remove_confounds(x, same, TR)


def test_training_part_does_not_know_the_test_part():
    run, confounds = walks(400, 4, 9), walks(400, 3, 10)
    (found,) = denoise_runs([run], TR, SIGNAL, [confounds])
    other_run, other_confounds = run.copy(), confounds.copy()
    other_run[200:], other_confounds[200:] = walks(200, 4, 11), walks(200, 3, 12)
    (other,) = denoise_runs([other_run], TR, SIGNAL, [other_confounds])
    np.testing.assert_array_equal(found[:200], other[:200])
    np.testing.assert_array_equal(found[200:], remove_confounds(run[200:], confounds[200:], TR, band=BAND))
    (whole,) = denoise_runs([run], TR, SIGNAL | {"splits": "runs"}, [confounds])
    np.testing.assert_array_equal(whole, remove_confounds(run, confounds, TR, band=BAND))


def test_no_block_knows_another_and_gaps_stay_as_they_are():
    run, confounds = walks(400, 4, 9), walks(400, 3, 10)
    blocks = SIGNAL | {"splits": "blocks", "block": 70 * TR}  # four of 92 frames, ten between
    (found,) = denoise_runs([run], TR, blocks, [confounds], gaps=[10])
    places = [(0, 92), (102, 195), (205, 297), (307, 400)]
    for start, stop in places:
        alone = remove_confounds(run[start:stop], confounds[start:stop], TR, band=BAND)
        np.testing.assert_array_equal(found[start:stop], alone)
    for (_, start), (stop, _) in pairwise(places):
        np.testing.assert_array_equal(found[start:stop], run[start:stop])


def test_scrubbed_frames_have_no_influence_at_all():
    """Whatever stands in them: every feature stays the same, to the last bit; without scrubbing it does not."""
    run = walks(500, 4, 13)
    kept = np.ones(500, dtype=bool)
    kept[[0, 60, 61, 62, 180, 300, 301, 499]] = False
    spiked = run.copy()
    spiked[~kept] += 500
    datasets = [
        signal_dataset(denoise_runs([x], TR, SIGNAL, kept=[kept]), TR, list("abcd"), SIGNAL, (0.04, 0.07))
        for x in (run, spiked)
    ]
    assert datasets[0].identical(datasets[1])
    ds = datasets[0]
    assert ds.attrs["scrubbed_frames"] == 8
    np.testing.assert_array_equal(ds["n_frames"].sel(split=["train", "test"]), [245, 247])
    assert np.isnan(ds["bold"].values[0, ~kept]).all() and np.isfinite(ds["bold"].values[0, kept]).all()
    for name in ("fc", "lag1", "psd", "variance", "metastability", "tsnr", "effective_dof", "peak_frequency"):
        assert np.isfinite(ds[name].values).all(), name
    # features are computed again from what is stored
    again = features(stored_splits(ds)["train"], TR, SIGNAL)
    np.testing.assert_array_equal(again["fc"], ds["fc"].sel(split="train"))
    # close to the truth: a few filled frames change FC by less than 0.1 (its standard error is 0.15), spikes by more
    whole, bad = (features(x[:250], TR, SIGNAL)["fc"] for x in (run, spiked))
    assert np.abs(again["fc"] - whole).max() < 0.1 < 0.5 < np.abs(bad - whole).max()


def test_features_of_scrubbed_series():
    x = np.random.default_rng(14).normal(size=(300, 4))
    x[[10, 11, 50]] = np.nan
    filled = fill_censored(x)
    np.testing.assert_allclose(filled[10:12], [x[9] + (x[12] - x[9]) * w for w in (1 / 3, 2 / 3)], rtol=1e-12)
    cleaned = clean(x, TR)
    kept = observed(x)
    np.testing.assert_array_equal(observed(cleaned), kept)
    np.testing.assert_allclose(cleaned[kept].std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(cleaned[kept].mean(axis=0), 0, atol=1e-12)
    # lag 1: only pairs of frames that are both there
    pairs = [(t + 1, t) for t in range(299) if kept[t] and kept[t + 1]]
    later, earlier = (x[[pair[at] for pair in pairs]] for at in (0, 1))
    wanted = np.corrcoef(later.T, earlier.T)[:4, 4:]
    np.testing.assert_allclose(lagged_correlation(x), wanted, rtol=1e-10)
    # FCD: a window with fewer than half of its frames says nothing
    x[100:130] = np.nan
    matrix = fcd(x, 50, 25)  # windows from 75 and 100 have 25 and 20 frames
    np.testing.assert_array_equal(np.isnan(np.diagonal(matrix)), [False] * 4 + [True] + [False] * 6)
    first = np.corrcoef(x[:50][kept[:50]].T)[np.triu_indices(4, 1)]
    last = np.corrcoef(x[250:].T)[np.triu_indices(4, 1)]
    assert matrix[0, -1] == pytest.approx(np.corrcoef(first, last)[0, 1], abs=1e-12)
    with pytest.raises(ValueError, match="no frame left"):
        clean(np.full((60, 2), np.nan), TR)


def test_effective_degrees_of_freedom_of_scrubbed_series():
    """The variance of correlations of independent AR(1) series (rho 0.8) with a third of the frames missing.

    The mean over 40 draws of the estimate lies within 15 % of one over the variance of 40 * 190 correlations.
    """
    rng = np.random.default_rng(15)
    missing = np.zeros(600, dtype=bool)
    for start in rng.integers(0, 590, 26):
        missing[start : start + 10] = True
    found, variances = [], []
    for _ in range(40):
        x = rng.normal(size=(700, 20))
        for t in range(1, 700):
            x[t] += 0.8 * x[t - 1]
        x = x[100:]
        x[missing] = np.nan
        found.append(effective_dof(x))
        variances.append((np.corrcoef(x[~missing].T)[np.triu_indices(20, 1)] ** 2).mean())
    assert 0.25 < missing.mean() < 0.45
    assert np.mean(found) == pytest.approx(1 / np.mean(variances), rel=0.15)


def test_columns_are_those_that_nilearn_takes(tmp_path):
    from nilearn.interfaces.fmriprep import load_confounds

    columns = files.confound_columns(60)
    table = files.save_confounds(tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv", columns)
    image = tmp_path / "sub-01_task-rest_space-A_desc-preproc_bold.nii.gz"
    image.write_bytes(b"")
    level = {6: "basic", 12: "derivatives", 24: "full", 2: "basic", 8: "full", 4: "derivatives", 1: "basic"}
    for ours in (
        {"motion": 6, "wm_csf": 2},
        {"motion": 12, "wm_csf": 4, "global_signal": 1},
        {"motion": 24, "wm_csf": 8, "compcor": 3, "columns": ["cosine*"]},
    ):
        theirs = {name: level[ours[name]] for name in ("motion", "wm_csf", "global_signal") if name in ours}
        extra = ("high_pass", "compcor") if "compcor" in ours else ()
        found, _ = load_confounds(
            str(image),
            strategy=(*theirs, *extra),
            demean=False,
            **theirs,
            compcor="anat_combined",
            n_compcor=3,
        )
        read = read_confounds(table, ours)
        assert sorted(read.names) == sorted(found.columns)
        np.testing.assert_allclose(read.values, found[read.names].values, rtol=1e-11)
    # cosines are needed only where the band does not keep slow drifts out
    header = list(columns)
    assert choose_columns(header, {"compcor": 2}, table, [0.01, 0.1]) == ["a_comp_cor_00", "a_comp_cor_02"]
    assert choose_columns(header, {"compcor": 1}, table, [0.005, 0.1])[1:] == [
        "cosine00",
        "cosine01",
        "cosine02",
    ]


def test_tables_that_lack_something(tmp_path):
    path = tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv"
    columns = files.confound_columns(20)

    def refused(part, *settings):
        with pytest.raises(DataError) as caught:
            read_confounds(path, *settings)
        assert part in str(caught.value), caught.value

    del columns["rot_x_power2"], columns["rot_y_power2"]
    columns["csf"][4] = np.nan
    columns["std_dvars"][7] = np.nan
    files.save_confounds(path, columns)
    refused(
        "sub-01 table has no column 'rot_x_power2' and 1 more, which signal.confounds.motion: 24 asks for",
        {"motion": 24},
    )
    refused("no column 'edge_*', which signal.confounds.columns asks for", {"columns": ["edge_*"]})
    refused(
        "table has 4 columns a_comp_cor_* of the combined mask, signal.confounds.compcor is 5", {"compcor": 5}
    )
    refused("line 6, column csf is no number", {"wm_csf": 2})
    refused("line 9, column std_dvars is no number", None, {"std_dvars": 1.5})
    del columns["framewise_displacement"]
    files.save_confounds(path, columns)
    refused("no column 'framewise_displacement', which signal.scrub.fd: 0.5 asks for", None, {"fd": 0.5})
    # a frame that goes needs no number
    columns["framewise_displacement"] = np.where(np.arange(20) == 4, 2.0, 0.0)
    files.save_confounds(path, columns)
    found = read_confounds(path, {"wm_csf": 2}, {"fd": 0.5, "contiguous": 0})
    np.testing.assert_array_equal(np.flatnonzero(~found.kept), [4])


def test_which_frames_are_scrubbed(tmp_path):
    columns = files.confound_columns(60)
    columns["framewise_displacement"][[20, 40]] = 0.6
    columns["std_dvars"][30] = 1.8
    columns["non_steady_state_outlier00"] = np.eye(60)[0]
    path = files.save_confounds(tmp_path / "sub-01_desc-confounds_timeseries.tsv", columns)

    def gone(**scrub):
        return np.flatnonzero(~read_confounds(path, None, scrub).kept).tolist()

    assert gone(fd=0.5) == [0, 20, 40]
    assert gone(fd=0.7) == [0]
    assert gone(fd=0.5, std_dvars=1.5, before=1, after=2) == [
        0,
        1,
        2,
        19,
        20,
        21,
        22,
        29,
        30,
        31,
        32,
        39,
        40,
        41,
        42,
    ]
    assert gone(fd=0.5, std_dvars=1.5, contiguous=10) == [0, *range(20, 41)]
    assert read_confounds(path, None).kept.all()
    assert not scrubbed_frames(np.zeros(3, bool), contiguous=9).any()  # a short run is no gap


def test_scores_of_a_scrubbed_recording():
    """Every score is defined, and the stationary surrogates lack the same frames."""
    from ou_cohort import LABELS, SIGNAL, TR, jacobian_of, simulation_dataset, subject_inputs, weights_of

    from brainloom.analysis.clean import detrend_only
    from brainloom.analysis.signal_dataset import stored_runs
    from brainloom.analysis.subject_scores import SCORED, score_subject
    from brainloom.analysis.surrogates import phase_randomised

    inputs = subject_inputs(1, n=600)
    (run,) = stored_runs(inputs["signal"])
    run[np.random.default_rng(16).random(600) < 0.1] = np.nan
    signal = signal_dataset([run], TR, LABELS, SIGNAL, (0.04, 0.07))
    simulation = simulation_dataset(jacobian_of(weights_of(1)), int(signal["n_frames"].sel(split="test")))
    given = {
        "connectome": inputs["connectome"],
        "fit": inputs["fit"],
        "simulation": simulation,
        "signal": signal,
    }
    table = score_subject("01", "LinearStep", fcd=True, seed=0, **given).to_dataframe()
    assert np.isfinite(table["value"]).all()
    test = stored_splits(signal)["test"][0]
    assert 0.05 < np.isnan(test[:, 0]).mean() < 0.2
    surrogate = phase_randomised(detrend_only(test), [0, SCORED.index("test"), 1, 0])
    wanted = features(np.where(observed(test)[:, None], surrogate, np.nan), TR, SIGNAL)["metastability"]
    row = (table["split"] == "test") & (table["predictor"] == "stationary_surrogate") & (table["seed"] == 1)
    assert table.loc[row & (table["metric"] == "metastability"), "value"].item() == wanted
