"""Regional series of BOLD images: the numbers, what is noted, and what is refused in a sentence."""

from __future__ import annotations

import gzip
import json
import re

import fmri_files as files
import nibabel as nib
import numpy as np
import pytest
from fmri_files import AFFINE, NAMES, SHAPE, TABLE, TR, VALUES, label_array, save_cifti, save_nifti

from brainloom.core.errors import DataError
from brainloom.io import bids, fmri
from brainloom.io.fmri import read_bold_image, read_pconn

FRAMES = 30


@pytest.fixture
def bold(tmp_path):
    data = np.random.default_rng(1).normal(1000, 10, (*SHAPE, FRAMES)).astype(np.float32)
    return save_nifti(tmp_path / "sub-01_task-rest_bold.nii.gz", data), data


@pytest.fixture
def atlas(tmp_path):
    return save_nifti(tmp_path / "atlas.nii.gz", label_array())


def means(data, labels=None, values=VALUES):
    labels = label_array() if labels is None else labels
    return np.stack([data[labels == value].astype(np.float64).mean(axis=0) for value in values], axis=1)


def refused(part, *args, **settings):
    with pytest.raises(DataError) as caught:
        read_bold_image(*args, **settings)
    sentence = str(caught.value)
    assert part in sentence, sentence
    assert "\n" not in sentence


def test_regional_means_are_those_of_numpy(bold, atlas, monkeypatch):
    """To 1e-12, the rounding of sums of 60 numbers in double precision."""
    path, data = bold
    series = read_bold_image(path, atlas, TABLE)
    assert series.labels == NAMES and series.repetition_time == TR and series.notes == []
    np.testing.assert_allclose(series.data, means(data), rtol=1e-12)
    assert series.data.dtype == np.float64 and series.kept.all() and series.dropped == 0
    np.testing.assert_array_equal(series.coverage, 1)
    # without a table the values name the regions; read in blocks of 2 frames the numbers are the same
    monkeypatch.setattr(fmri, "_BLOCK_BYTES", 2.5 * 8000)
    plain = read_bold_image(path, atlas)
    assert plain.labels == ["1", "2", "3", "4", "7", "9"]
    np.testing.assert_array_equal(plain.data, series.data[:, np.argsort(VALUES)])


def test_scaled_integers_and_an_uncompressed_file(tmp_path, atlas):
    data = np.random.default_rng(2).normal(1000, 10, (*SHAPE, FRAMES))
    image = nib.Nifti1Image(data, AFFINE, dtype=np.int16)
    image.header.set_zooms((2, 2, 2, 800.0))
    image.header.set_xyzt_units("mm", "msec")
    nib.save(image, tmp_path / "x.nii")
    series = read_bold_image(tmp_path / "x.nii", atlas, TABLE)
    np.testing.assert_allclose(series.data, means(nib.load(tmp_path / "x.nii").get_fdata()), rtol=1e-12)
    assert series.repetition_time == TR


def test_the_masker_of_nilearn_gives_the_same_numbers(bold, atlas):
    """To 1e-6: it sums in single precision."""
    from nilearn.maskers import NiftiLabelsMasker

    path, _ = bold
    masker = NiftiLabelsMasker(str(atlas), standardize=None)
    found = masker.fit_transform(str(path))
    column = {int(name): at for at, name in masker.region_names_.items()}
    wanted = found[:, [column[value] for value in VALUES]]
    np.testing.assert_allclose(read_bold_image(path, atlas, TABLE).data, wanted, rtol=1e-6)


def test_voxels_without_a_signal_are_left_out_and_counted(bold, atlas):
    path, data = bold
    data = data.copy()
    labels = label_array()
    gone = np.argwhere(labels == VALUES[0])[:9]
    for at, voxel in enumerate(map(tuple, gone)):
        data[voxel] = [0, 7.5, data[voxel]][at % 3]
        if at % 3 == 2:
            data[(*voxel, 4)] = [np.nan, np.inf][at % 2]
        labels[voxel] = 0
    save_nifti(path, data)
    series = read_bold_image(path, atlas, TABLE)
    np.testing.assert_allclose(series.data, means(data, labels), rtol=1e-12)
    assert series.dropped == 9
    np.testing.assert_allclose(series.coverage, [51 / 60, 1, 1, 1, 1, 1])
    assert series.notes == ["9 of 360 voxels of the regions have no signal and are left out of the means"]
    # most of a region
    data[labels == VALUES[0]] = 0
    data[tuple(np.argwhere(labels == VALUES[0])[0])] = np.arange(FRAMES)
    save_nifti(path, data)
    refused(
        "sub-01 region 'V1_L' has a signal in 2% of its volume; at least 50% is needed", path, atlas, TABLE
    )
    assert read_bold_image(path, atlas, TABLE, min_coverage=0.01).coverage[0] == pytest.approx(1 / 60)
    # all of two
    data[np.isin(labels, VALUES[:2])] = 3
    save_nifti(path, data)
    refused(
        "has no signal in 2 of 6 regions of atlas.nii.gz: V1_L, V1_R; give an atlas in the space",
        path,
        atlas,
        TABLE,
    )


def test_another_grid_is_noted_and_gives_the_same_places(bold, tmp_path):
    """An atlas with voxels of half the width, and one that is cut and starts elsewhere: nearest neighbours are exact."""
    path, data = bold
    fine = np.repeat(np.repeat(np.repeat(label_array(), 2, 0), 2, 1), 2, 2)
    half = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    half[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    save_nifti(tmp_path / "fine.nii.gz", fine, half)
    series = read_bold_image(path, tmp_path / "fine.nii.gz", TABLE)
    np.testing.assert_allclose(series.data, means(data), rtol=1e-12)
    np.testing.assert_allclose(series.coverage, 1)
    assert series.notes == [
        "fine.nii.gz (20 x 20 x 20) is in another grid than sub-01_task-rest_bold.nii.gz (10 x 10 x 10) and was put into it "
        "by nearest neighbour"
    ]
    moved = AFFINE.copy()
    moved[:3, 3] = (AFFINE @ [1, 1, 2, 1])[:3]
    save_nifti(tmp_path / "cut.nii.gz", label_array()[1:, 1:, 2:], moved)
    series = read_bold_image(path, tmp_path / "cut.nii.gz", TABLE)
    np.testing.assert_allclose(series.data, means(data), rtol=1e-12)
    assert len(series.notes) == 1


def test_regions_outside_the_field_of_view_are_named(bold, tmp_path):
    path, _ = bold
    away = AFFINE.copy()
    away[1, 3] += 8  # four voxels: the regions at the upper end leave
    save_nifti(tmp_path / "away.nii.gz", label_array(), away)
    refused(
        "has no signal in 2 of 6 regions of away.nii.gz: M1_L, A1_R", path, tmp_path / "away.nii.gz", TABLE
    )
    away[1, 3] += 1000
    save_nifti(tmp_path / "away.nii.gz", label_array(), away)
    refused("has no signal in 6 of 6 regions", path, tmp_path / "away.nii.gz", TABLE)


def test_table_and_label_image_must_fit(bold, atlas, tmp_path):
    path, _ = bold
    series = read_bold_image(path, atlas, {9: "A1_L", 2: "M1_R"})
    assert series.labels == ["A1_L", "M1_R"] and series.data.shape == (FRAMES, 2)
    assert series.notes == [
        "4 values of the atlas image are not in the atlas table and are left out: 1, 3, 4, 7"
    ]
    refused(
        "has no voxels of 1 of 7 regions of the atlas table: S1 (5); column index",
        path,
        atlas,
        TABLE | {5: "S1"},
    )
    table = tmp_path / "table.tsv"
    table.write_text("index\tname\n3\tV1_L\nx\tV1_R\n")
    refused(
        f"{table}: index of V1_R is 'x'; it must be the value of the region in the atlas image",
        path,
        atlas,
        table,
    )
    save_nifti(tmp_path / "p.nii.gz", label_array() * 0.5)
    refused(
        "atlas image has the value 1.5; every value must be a whole number",
        path,
        tmp_path / "p.nii.gz",
        TABLE,
    )
    save_nifti(tmp_path / "0.nii.gz", np.zeros(SHAPE, np.int16))
    refused("atlas image has no value above 0", path, tmp_path / "0.nii.gz")
    refused("none.nii.gz: atlas image not found; correct input.atlas_image", path, tmp_path / "none.nii.gz")
    refused("atlas image is 10 x 10 x 10 x 30; it must have three axes", path, path)
    refused("image needs an atlas image", path)


def test_repetition_time(bold, atlas, tmp_path):
    path, data = bold
    sidecar = tmp_path / "sub-01_task-rest_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 0.8004}))
    assert read_bold_image(path, atlas).repetition_time == 0.8004  # the header has it in single precision
    sidecar.write_text(json.dumps({"RepetitionTime": 2.0}))
    refused("sub-01 repetition time is 2 s in the JSON sidecar but 0.8 s in the header; correct", path, atlas)
    sidecar.unlink()
    refused(
        "repetition time is 0.8 s in the header but 0.72 s in signal.tr", path, atlas, repetition_time=0.72
    )
    save_nifti(path, data, tr=0.0)
    refused("repetition time is missing: the header has 0 (unit sec)", path, atlas)
    assert read_bold_image(path, atlas, repetition_time=1.5).repetition_time == 1.5
    # without a unit a number says nothing: 800 and 0.8 may be the same
    save_nifti(path, data, tr=2.0, unit="unknown")
    refused("the header has 2 (unit unknown) and no JSON sidecar has RepetitionTime; add it", path, atlas)
    sidecar.write_text(json.dumps({"RepetitionTime": 0.8}))
    assert read_bold_image(path, atlas).repetition_time == 0.8


def test_files_that_are_no_bold(bold, atlas, tmp_path):
    path, _ = bold
    refused("sub-02_bold.nii.gz: sub-02 file not found", tmp_path / "sub-02_bold.nii.gz", atlas)
    refused("atlas.nii.gz: image is 10 x 10 x 10; BOLD must have four axes", atlas, atlas)
    (tmp_path / "x.nii").write_text("not an image")
    refused("x.nii: file cannot be read as an image", tmp_path / "x.nii", atlas)
    (tmp_path / "x.mgz").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="file is no image that can be read"):
        fmri.image_kind(tmp_path / "x.mgz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("sub-01 file cannot be read as an image; it may be cut short, so copy it again", path, atlas)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-999]))
    refused("it may be cut short", path, atlas)


@pytest.fixture
def cifti(tmp_path):
    """A dense series of 90 vertices and 60 voxels, and an atlas that lists other vertices in another order."""
    rng = np.random.default_rng(3)
    axis = files.brain_models(np.arange(10, 100))
    data = rng.normal(100, 1, (FRAMES, 150)).astype(np.float32)
    key = np.concatenate([np.repeat(VALUES[:5], 18), np.full(60, VALUES[5])])
    path = save_cifti(tmp_path / "x.dtseries.nii", data, files.series_axis(FRAMES), axis)
    label = save_cifti(tmp_path / "x.dlabel.nii", key[None], files.label_axis(TABLE), axis)
    return path, label, data, key


def test_dense_series(cifti):
    path, label, data, key = cifti
    series = read_bold_image(path, label, TABLE)
    wanted = np.stack([data[:, key == value].astype(np.float64).mean(axis=1) for value in VALUES], axis=1)
    np.testing.assert_allclose(series.data, wanted, rtol=1e-12)
    assert (series.labels, series.repetition_time, series.notes) == (NAMES, TR, [])
    named = read_bold_image(path, label)  # names come from the file
    assert named.labels == [TABLE[value] for value in sorted(VALUES)]
    np.testing.assert_array_equal(named.data, series.data[:, np.argsort(VALUES)])


def test_dense_series_and_atlas_of_other_grayordinates(cifti, tmp_path):
    """Matched by vertex and voxel: an atlas of the whole mesh, of the thalamus first, fits a series without medial wall."""
    path, _, data, key = cifti
    cortex, thalamus = (part for _, _, part in files.brain_models(np.arange(100)).iter_structures())
    values = np.concatenate([key[90:], np.full(10, VALUES[0]), key[:90]])
    axes = files.label_axis(TABLE), thalamus + cortex
    label = save_cifti(tmp_path / "whole.dlabel.nii", values[None], *axes)
    series = read_bold_image(path, label, TABLE)
    wanted = np.stack([data[:, key == value].astype(np.float64).mean(axis=1) for value in VALUES], axis=1)
    np.testing.assert_allclose(series.data, wanted, rtol=1e-12)
    np.testing.assert_allclose(
        series.coverage, [18 / 28, 1, 1, 1, 1, 1]
    )  # ten vertices are not in the series


def test_dense_series_that_do_not_fit(cifti, bold, atlas, tmp_path):
    path, label, data, key = cifti
    refused("region V1_L is 3 in the atlas image but 9 in the atlas table", path, label, {9: "V1_L"})
    axis = files.brain_models(np.arange(10, 100), 162)
    other = save_cifti(tmp_path / "mesh.dlabel.nii", key[None], files.label_axis(TABLE), axis)
    refused("has 100 vertices but 162 in mesh.dlabel.nii; give an atlas of the same mesh", path, other, TABLE)
    refused("is a CIFTI series but atlas.nii.gz is a NIfTI atlas", path, atlas, TABLE)
    refused("is a NIfTI but x.dlabel.nii is a CIFTI atlas", bold[0], label, TABLE)
    refused("x.dlabel.nii: file is a dlabel; BOLD must be", label, label)
    save_nifti(tmp_path / "n.dtseries.nii", bold[1])
    refused("file is a NIfTI without a CIFTI header", tmp_path / "n.dtseries.nii", label)
    missing = np.where(key == VALUES[2], 0, key)
    save_cifti(label, missing[None], files.label_axis(TABLE), files.brain_models(np.arange(10, 100)))
    refused("has no voxels of 1 of 6 regions of the atlas table: M1_L (7)", path, label, TABLE)
    save_cifti(path, data, files.series_axis(FRAMES, 0.0), files.brain_models(np.arange(10, 100)))
    refused("repetition time is missing: the header has 0 (unit second)", path, label)


def test_parcel_series_and_parcel_matrix(tmp_path):
    data = np.random.default_rng(4).normal(size=(FRAMES, 6))
    axis = files.parcels_axis(NAMES)
    path = save_cifti(tmp_path / "x.ptseries.nii", data, files.series_axis(FRAMES), axis)
    series = read_bold_image(path)
    assert series.labels == NAMES and series.repetition_time == TR
    np.testing.assert_array_equal(series.data, data.astype(np.float32))
    turned = read_bold_image(path, labels=dict(enumerate(NAMES[::-1], 1)))
    np.testing.assert_array_equal(turned.data, series.data[:, ::-1])
    refused("header lacks the atlas region 'S1'", path, None, {1: "S1"})

    matrix = np.random.default_rng(5).uniform(size=(6, 6)).astype(np.float32)
    path = save_cifti(tmp_path / "x.pconn.nii", matrix, axis, axis)
    found, names = read_pconn(path)
    assert names == NAMES
    np.testing.assert_array_equal(found, matrix)
    np.testing.assert_array_equal(read_pconn(path, NAMES[::-1])[0], matrix[::-1, ::-1])
    with pytest.raises(
        DataError, match=re.escape("file is no matrix between the same parcels; give a .pconn.nii")
    ):
        read_pconn(tmp_path / "x.ptseries.nii")
    other = files.parcels_axis([*NAMES[:5], "S1"])
    save_cifti(path, matrix, axis, other)
    with pytest.raises(DataError, match="no matrix between the same parcels"):
        read_pconn(path)


def test_confounds_come_with_the_series(bold, atlas, tmp_path):
    path, _ = bold
    columns = files.confound_columns(FRAMES)
    columns["framewise_displacement"][12] = 0.9
    table = files.save_confounds(tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv", columns)
    series = read_bold_image(
        path, atlas, confounds=table, strategy={"motion": 6}, scrub={"fd": 0.5, "after": 1, "contiguous": 0}
    )
    assert series.confound_names == files.MOTION and series.confounds.shape == (FRAMES, 6)
    np.testing.assert_array_equal(np.flatnonzero(~series.kept), [12, 13])
    save_nifti(path, bold[1][..., :-1])
    refused(
        "table has 30 lines below its header but the recording has 29 frames", path, atlas, confounds=table
    )


def test_images_of_a_subject_are_found_by_space_and_atlas(tmp_path):
    func = tmp_path / "sub-01/func"
    func.mkdir(parents=True)
    for name in (
        "sub-01_task-rest_run-2_space-A_res-2_desc-preproc_bold.nii.gz",
        "sub-01_task-rest_run-1_space-A_res-2_desc-preproc_bold.nii.gz",
        "sub-01_task-rest_run-1_space-B_desc-preproc_bold.nii.gz",
        "sub-01_task-rest_run-1_space-A_res-2_desc-brain_mask.nii.gz",
        "sub-01_task-nback_run-1_space-A_bold.nii.gz",
        "sub-01_task-rest_run-1_space-fsLR_den-91k_bold.dtseries.nii",
        "sub-01_task-rest_run-1_seg-six_bold.ptseries.nii",
        "sub-01_task-rest_run-1_seg-other_bold.ptseries.nii",
        "sub-01_task-rest_run-1_desc-confounds_timeseries.tsv",
        "sub-01_task-rest_run-02_desc-confounds_timeseries.tsv",
        "sub-01_task-rest_run-1_space-A_res-2_desc-preproc_bold.json",
    ):
        (func / name).write_text("")

    def found(atlas_image, **more):
        return bids.subject_files(tmp_path, "01", "six", "rest", atlas_image=atlas_image, **more)

    here = found("at/tpl-A_res-02_atlas-six_dseg.nii.gz", confounds=True)
    assert [path.name for path in here["bold"]] == [
        f"sub-01_task-rest_run-{run}_space-A_res-2_desc-preproc_bold.nii.gz" for run in (1, 2)
    ]
    assert [path.name.split("_")[2] for path in here["confounds"]] == ["run-1", "run-02"]
    assert [path.name for path in here["bold_json"]] == [
        "sub-01_task-rest_run-1_space-A_res-2_desc-preproc_bold.json"
    ]
    assert [path.name for path in found("x.dlabel.nii")["bold"]] == [
        "sub-01_task-rest_run-1_space-fsLR_den-91k_bold.dtseries.nii"
    ]
    assert [path.name for path in found(None)["bold"]] == ["sub-01_task-rest_run-1_seg-six_bold.ptseries.nii"]
    with pytest.raises(DataError, match="two files for the same run"):
        found("atlas.nii.gz")
    # expected where there is none, with the label in the path of the atlas
    other = bids.subject_files(
        tmp_path, "02", "six", "rest", atlas_image="at/sub-{subject}.dlabel.nii", confounds=True
    )
    assert other["bold"] == [tmp_path / "sub-02/func/sub-02_task-rest_bold.dtseries.nii"]
    assert other["confounds"] == [tmp_path / "sub-02/func/sub-02_task-rest_desc-confounds_timeseries.tsv"]
    assert str(other["atlas_image"]) == "at/sub-02.dlabel.nii"
    # a table of the atlas comes before a parcel series
    (func / "sub-01_task-rest_run-1_atlas-six_timeseries.tsv").write_text("")
    assert [path.suffix for path in found(None)["bold"]] == [".tsv"]
