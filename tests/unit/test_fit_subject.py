"""The fit of a subject with its controls, checkpoints and errors."""

import re

import numpy as np
import pytest
import xarray as xr
from small_fits import N, connectome, subject_fit, subject_inputs

from brainloom.cohort.fits import Case, fit_subject, fit_subjects
from brainloom.core.errors import DataError
from brainloom.fit.controls import control_connectomes

CONTROLS = [
    "control_other_subject", "control_edge_shuffle:0", "control_edge_shuffle:1", "control_distance_shuffle:0",
    "control_distance_shuffle:1", "control_uniform", "control_distance",
]  # fmt: skip


def test_every_control_is_fitted_and_none_is_as_good_as_the_true_connectome():
    fit = subject_fit("LinearStep")
    assert fit["predictor"].values.tolist() == ["model", *CONTROLS]
    assert fit["family"].values.tolist() == ["model_analytic", *(name.split(":")[0] for name in CONTROLS)]
    loss = fit["final_loss"].min("start")
    assert (loss.sel(predictor=CONTROLS) > 10 * loss.sel(predictor="model")).all()
    assert len(set(loss.values.tolist())) == len(loss)
    assert np.isnan(fit["final_loss"].sel(predictor=CONTROLS, start=1)).all()  # one start each
    assert (fit["stability_margin"] >= 0.01 - 1e-12).all()


def test_control_connectomes():
    rng = np.random.default_rng(0)
    weights, donor = (x + x.T for x in rng.uniform(size=(2, N, N)) * (1 - np.eye(N)))
    all_of_them = {
        "other_subject": True,
        "edge_shuffle": 2,
        "distance_shuffle": 1,
        "uniform": True,
        "distance": True,
    }
    lengths = 100 * donor
    found = control_connectomes(all_of_them, weights, lengths, donor, 5)
    assert list(found) == [*CONTROLS[:4], *CONTROLS[5:]]
    np.testing.assert_array_equal(found["control_other_subject"], donor)
    for name, control in found.items():
        if name != "control_other_subject":
            np.testing.assert_allclose(control.sum(), weights.sum(), rtol=1e-12)
    assert np.abs(found["control_edge_shuffle:0"] - found["control_edge_shuffle:1"]).max() > 0.1
    assert "control_other_subject" not in control_connectomes(all_of_them, weights, lengths, None, 5)
    nothing = {
        "other_subject": False,
        "edge_shuffle": 0,
        "distance_shuffle": 0,
        "uniform": False,
        "distance": False,
    }
    assert control_connectomes(nothing, weights, lengths, donor, 5) == {}


def test_finished_fits_are_read_from_their_checkpoints(tmp_path):
    config, wiring, recorded = subject_inputs("LinearStep")
    expected = subject_fit("LinearStep")
    folder = tmp_path / "checkpoints"
    donor = connectome("2")
    xr.testing.assert_identical(fit_subject("1", wiring, recorded, donor, config, folder), expected)
    files = sorted(folder.iterdir())
    assert len(files) == 1 + len(CONTROLS) and all(f.name.startswith("sub-1_") for f in files)
    files[3].write_bytes(files[3].read_bytes()[:-100])  # as a damaged disk leaves it
    made = {f: f.stat().st_mtime_ns for f in files}
    xr.testing.assert_identical(fit_subject("1", wiring, recorded, donor, config, folder), expected)
    assert [f for f in sorted(folder.iterdir()) if f.stat().st_mtime_ns != made[f]] == [files[3]]

    # what the fit depends on makes new checkpoints; an old one is never taken for it
    changed = recorded.copy(deep=True)
    changed["fc"][0, 0, 1] += 0.01
    changed["fc"][0, 1, 0] += 0.01
    found = fit_subject("1", wiring, changed, donor, config, folder)
    assert len(list(folder.iterdir())) == 2 * len(files)
    assert not np.allclose(found["theta"].sel(predictor="model"), expected["theta"].sel(predictor="model"))


def few_controls(config):
    return config | {"controls": config["controls"] | dict.fromkeys(("edge_shuffle", "distance_shuffle"), 0)}


@pytest.mark.parametrize("why", ["other regions", "same subject", "none"])
def test_a_donor_that_can_not_serve_is_left_out(why):
    config, wiring, recorded = subject_inputs("LinearStep")
    donor = connectome("2")
    if why == "other regions":
        labels = [f"Other{k}" for k in range(N)]
        donor = donor.assign_coords(region=labels, region_to=labels)
    found = fit_subject(
        "1",
        wiring,
        recorded,
        {"same subject": wiring, "none": None}.get(why, donor),
        few_controls(config),
        None,
    )
    assert found["predictor"].values.tolist() == ["model", "control_uniform", "control_distance"]


def test_subjects_that_are_fitted_together_get_what_each_gets_alone(tmp_path):
    config, wiring, recorded = subject_inputs("LinearStep")
    config = few_controls(config)
    other = subject_inputs("LinearStep", "2")[1:]
    broken = recorded.copy(deep=True)
    broken["fc"][0, 2, 3] = np.nan
    odd = recorded.assign_coords(region=recorded["region"].values[::-1])
    cases = [
        Case("1", wiring, recorded, other[0]),
        Case("8", wiring, broken),
        Case("9", wiring, odd.assign_attrs(subject="9")),
        Case("2", *other, wiring),
    ]
    together = fit_subjects(cases, config, tmp_path)
    assert [type(found) for found in together] == [xr.Dataset, DataError, DataError, xr.Dataset]
    assert "sub-8: the fit diverged from all 2 starts" in str(together[1])
    assert "sub-9: connectome and recording have different regions" in str(together[2])
    for case, found in ((cases[0], together[0]), (cases[3], together[3])):
        alone = fit_subject(case.subject, case.connectome, case.signal, case.donor, config)
        xr.testing.assert_identical(found, alone)
    # the model and three controls of both subjects, and what could be fitted of the broken one: nothing
    names = sorted(path.name.split("_")[0] for path in tmp_path.iterdir())
    assert names.count("sub-1") == names.count("sub-2") == 4


def test_other_regions_in_the_recording_are_an_error_of_the_subject():
    config, wiring, recorded = subject_inputs("LinearStep")
    wrong = recorded.assign_coords(region=recorded["region"].values[::-1])
    first, last = wiring["region"].values[[0, -1]]
    sentence = f"sub-1: connectome and recording have different regions (region 1 is {first} and {last}); use one atlas"
    with pytest.raises(DataError, match=re.escape(sentence)):
        fit_subject("1", wiring, wrong, None, config, None)


def test_a_target_that_no_start_can_fit_is_an_error_of_the_subject():
    config, wiring, recorded = subject_inputs("LinearStep")
    broken = recorded.copy(deep=True)
    broken["fc"][0, 2, 3] = np.nan
    with pytest.raises(DataError, match="sub-1: the fit diverged from all 2 starts"):
        fit_subject("1", wiring, broken, None, few_controls(config), None)
