"""Preparation of connectomes: symmetric, transformed, normalised; lengths of all pairs; mirror regions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainloom.core.errors import DataError
from brainloom.io import bids, connectome
from brainloom.steps import preprocess_connectome
from brainloom.store import read_dataset

positive = arrays(float, (5, 5), elements=st.floats(1e-3, 1e6))


@settings(max_examples=60, deadline=None)
@given(positive, st.sampled_from(connectome.TRANSFORMS), st.sampled_from(connectome.NORMALISATIONS))
def test_prepared_weights_keep_their_promises(raw: np.ndarray, transform: str, normalise: str) -> None:
    given_bytes = raw.tobytes()
    weights, scale = connectome.prepare_weights(raw, transform=transform, normalise=normalise)
    assert raw.tobytes() == given_bytes
    np.testing.assert_array_equal(weights, weights.T)
    assert (np.diag(weights) == 0).all() and (weights >= 0).all()
    if normalise == "mean_strength":
        assert weights.sum(axis=1).mean() == pytest.approx(1, rel=1e-12)
    if normalise == "max":
        assert weights.max() == 1
    mean = (raw + raw.T) / 2
    expected = {"linear": mean, "sqrt": np.sqrt(mean), "log": np.log(1 + mean)}[transform]
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(weights * scale, expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(positive, st.floats(1e-6, 1e6))
def test_units_of_linear_weights_do_not_matter(raw: np.ndarray, unit: float) -> None:
    one, scale = connectome.prepare_weights(raw)
    other, other_scale = connectome.prepare_weights(raw * unit)
    np.testing.assert_allclose(other, one, rtol=1e-12)
    assert other_scale == pytest.approx(scale * unit, rel=1e-12)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"connectome\.transform is 'cube'; it must be one of linear, sqrt, log"
    ):
        connectome.transform_weights(np.ones((2, 2)), "cube")
    with pytest.raises(ValueError, match=r"connectome\.normalise is 'sum'"):
        connectome.normalise_weights(np.ones((2, 2)), "sum")


def test_lengths_of_unconnected_pairs_are_the_shortest_chains() -> None:
    nan = np.nan
    # A line 0 - 1 - 2 - 3 with a detour 0 - 2 that is longer than the two steps.
    lengths = np.array([[0, 10, 50, 0], [10, 0, 20, nan], [50, 20, 0, 30], [nan, 0, 30, 0.0]])
    weights = (np.nan_to_num(lengths) > 0).astype(float)
    filled, n_filled = connectome.prepare_lengths(lengths, weights)
    assert n_filled == 2
    np.testing.assert_array_equal(
        filled, [[0, 10, 50, 60], [10, 0, 20, 50], [50, 20, 0, 30], [60, 50, 30, 0]]
    )


def test_length_known_in_one_direction_is_not_halved() -> None:
    filled, n_filled = connectome.prepare_lengths([[0, 80.0], [0, 0]], np.array([[0, 1.0], [1, 0]]))
    np.testing.assert_array_equal(filled, [[0, 80], [80, 0]])
    assert n_filled == 0


def test_lengths_that_no_chain_gives_stay_unknown() -> None:
    lengths = np.array([[0, 10, 0, 0], [10, 0, 0, 0], [0, 0, 0, 20], [0, 0, 20, 0.0]])
    filled, _ = connectome.prepare_lengths(lengths, lengths > 0)
    assert np.isnan(filled[:2, 2:]).all() and np.isfinite(filled[:2, :2]).all()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Precentral_L", "Precentral_R"),
        ("Frontal_Sup_2_L", "Frontal_Sup_2_R"),
        ("insula.L", "insula.R"),
        ("L_V1_ROI", "R_V1_ROI"),
        ("lh-bankssts", "rh-bankssts"),
        ("lh.G_cuneus", "rh.G_cuneus"),
        ("lh_insula", "rh_insula"),
        ("ctx-lh-insula", "ctx-rh-insula"),
        ("ctx_lh_G_cuneus", "ctx_rh_G_cuneus"),
        ("Left-Thalamus", "Right-Thalamus"),
        ("Thalamus left", "Thalamus right"),
        ("bankssts_l", "bankssts_r"),
    ],
)
def test_sides_are_found_in_the_spellings_of_common_atlases(left: str, right: str) -> None:
    labels = [right, "Brainstem", left]
    np.testing.assert_array_equal(connectome.find_homotopes(labels), [2, -1, 0])
    assert connectome.find_hemispheres(labels) == ["R", "n/a", "L"]


def test_independently_numbered_parcels_have_a_side_but_no_mirror() -> None:
    labels = ["7Networks_LH_Vis_1", "7Networks_RH_Vis_1"]
    assert connectome.find_hemispheres(labels) == ["L", "R"]
    np.testing.assert_array_equal(connectome.find_homotopes(labels), [-1, -1])


def test_atlas_table_wins_over_labels() -> None:
    labels = ["a_L", "a_R", "b_L"]
    np.testing.assert_array_equal(connectome.find_homotopes(labels, np.array([2, -1, 0])), [2, -1, 0])
    assert connectome.find_hemispheres(labels, ["R", "n/a", "L"]) == ["R", "n/a", "L"]
    assert connectome.find_hemispheres(labels, ["n/a"] * 3) == ["L", "R", "L"]


def test_labels_without_sides_have_no_mirror() -> None:
    np.testing.assert_array_equal(connectome.find_homotopes(["L", "R", "region1", "Lingual"]), [-1] * 4)


def test_same_side_twice_is_refused() -> None:
    with pytest.raises(DataError) as error:
        connectome.find_homotopes(["a_L", "a_lh", "a_R"])
    assert str(error.value) == (
        "atlas regions 'a_L' and 'a_lh' are the same side of one name; "
        "rename one, or give the atlas table a column named homotope"
    )


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    labels = ["a_L", "a_R", "b_L", "b_R"]
    bids.write_participants(tmp_path, ["01"])
    bids.write_atlas(
        bids.atlas_path(tmp_path, "x"),
        labels,
        hemisphere=list("LRLR"),
        coordinates=np.arange(12.0).reshape(4, 3),
    )
    weights = np.array([[9, 4, 2, 0], [2, 9, 0, 1], [2, 0, 9, 3], [0, 1, 3, 9.0]])
    lengths = np.where(weights > 0, 40.0, 0.0)
    for measure, matrix in (("weight", weights), ("length", lengths)):
        bids.write_relmat(
            bids.relmat_path(tmp_path, "01", atlas="x", measure=measure), matrix, labels=labels[:]
        )
    return tmp_path


def run_step(cohort: Path, out: Path, **connectome_settings: object) -> None:
    settings = {"symmetrise": True, "transform": "linear", "normalise": "mean_strength"} | connectome_settings
    params = {"study": "t", "seed": 0, "precision": "float64", "connectome": settings}
    params["input"] = {"atlas": "x", "task": "rest"}
    words = ["--input", str(cohort), "--subject", "01", "--output", str(out), "--params", json.dumps(params)]
    assert preprocess_connectome.main(words) == 0


def test_step_writes_the_dataset(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "r/sub-01_desc-connectome.zarr.zip"
    run_step(cohort, out)
    ds = read_dataset(out)
    assert ds.attrs["status"] == "ok" and ds.attrs["kind"] == "connectome" and ds.attrs["subject"] == "01"
    assert ds.weights.dims == ds.lengths.dims == ("region", "region_to")
    symmetric = np.array([[0, 3, 2, 0], [3, 0, 0, 1], [2, 0, 0, 3], [0, 1, 3, 0]])
    np.testing.assert_allclose(ds.weights, symmetric / 4.5, rtol=1e-15)
    assert ds.attrs["scale"] == 4.5
    assert (ds.attrs["transform"], ds.attrs["normalisation"]) == ("linear", "mean_strength")
    assert ds.attrs["density"] == pytest.approx(8 / 12) and ds.attrs["lengths_filled"] == 2
    np.testing.assert_array_equal(ds.lengths.sel(region="a_L"), [0, 40, 40, 80])
    assert ds.lengths.attrs["units"] == "mm"
    np.testing.assert_array_equal(ds.homotope, [1, 0, 3, 2])
    assert ds.hemisphere.values.tolist() == ["L", "R", "L", "R"]
    assert float(ds.z.sel(region="b_L")) == 8.0
    hashes = json.loads(ds.attrs["input_hashes"])
    assert sorted(hashes) == [
        "atlas-x_dseg.tsv",
        "sub-01/dwi/sub-01_atlas-x_meas-length_relmat.tsv",
        "sub-01/dwi/sub-01_atlas-x_meas-weight_relmat.tsv",
    ]


def test_step_gives_the_same_bytes_twice(cohort: Path, tmp_path: Path) -> None:
    run_step(cohort, tmp_path / "one.zarr.zip")
    run_step(cohort, tmp_path / "two.zarr.zip")
    assert (tmp_path / "one.zarr.zip").read_bytes() == (tmp_path / "two.zarr.zip").read_bytes()


def test_step_keeps_asymmetry_out_when_told_so(cohort: Path, tmp_path: Path) -> None:
    run_step(cohort, tmp_path / "one.zarr.zip", symmetrise=False)
    assert (
        "the other way; set connectome.symmetrise to true"
        in read_dataset(tmp_path / "one.zarr.zip").attrs["reason"]
    )


def test_dataset_needs_no_other_subject(cohort: Path) -> None:
    params = {
        "input": {"atlas": "x", "task": "rest"},
        "connectome": {"symmetrise": True, "transform": "sqrt"},
    }
    params["connectome"]["normalise"] = "max"
    ds = preprocess_connectome.connectome_dataset("01", argparse.Namespace(input=cohort, params=params))
    assert float(ds.weights.max()) == 1.0 and ds.attrs["scale"] == pytest.approx(np.sqrt(3))
