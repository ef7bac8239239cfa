"""Tables of a BIDS derivative cohort: what is written comes back, in any of the spellings that BIDS allows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainloom.core.errors import DataError
from brainloom.io import bids, tables

LABELS = ["Insula_L", "Insula_R", "Cuneus_L", "Cuneus_R"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    bids.write_description(tmp_path, name="Test cohort")
    bids.write_participants(tmp_path, ["01", "02"])
    bids.write_atlas(bids.atlas_path(tmp_path, "four"), LABELS)
    return tmp_path


def add_subject(root: Path, label: str, *, runs: int = 1, session: str | None = None) -> None:
    rng = np.random.default_rng(3)
    for measure in ("weight", "length"):
        path = bids.relmat_path(root, label, atlas="four", measure=measure, session=session)
        bids.write_relmat(path, rng.random((4, 4)), {"Units": "1"})
    for run in range(1, runs + 1):
        path = bids.timeseries_path(root, label, task="rest", atlas="four", run=run, session=session)
        bids.write_timeseries(path, rng.normal(size=(20, 4)), LABELS, 0.72)


def test_paths_follow_the_names_of_the_demo(tmp_path: Path) -> None:
    root = Path("data")
    assert bids.atlas_path(root, "a") == root / "atlas-a_dseg.tsv"
    assert (
        bids.timeseries_path(root, "01", task="rest", atlas="a", run=2)
        == root / "sub-01/func/sub-01_task-rest_run-2_atlas-a_timeseries.tsv"
    )
    assert (
        bids.relmat_path(root, "sub-01", atlas="a", measure="weight")
        == root / "sub-01/dwi/sub-01_atlas-a_meas-weight_relmat.tsv"
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e8, 1e8), min_size=4, max_size=4), min_size=1, max_size=6),
    st.integers(4, 12),
)
def test_timeseries_keep_the_digits_asked_for(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]], digits: int
) -> None:
    path = tmp_path_factory.mktemp("bold") / "sub-01_task-rest_timeseries.tsv"
    data = np.array(rows)
    bids.write_timeseries(path, data, LABELS, 0.72, digits=digits)
    back, labels = bids.read_timeseries(path)
    assert labels == LABELS
    np.testing.assert_allclose(back, data, rtol=0.5001 * 10.0 ** (1 - digits), atol=0)


def test_missing_values_come_back_as_nan(tmp_path: Path) -> None:
    data = np.array([[1.0, np.nan], [-0.0, 2.5]])
    path = bids.write_timeseries(tmp_path / "sub-01_timeseries.tsv", data, ["a", "b"], 1.0)
    assert path.read_text() == "a\tb\n1\tn/a\n0\t2.5\n"
    np.testing.assert_array_equal(bids.read_timeseries(path)[0], data)


def test_same_arrays_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        root = tmp_path / name
        add_subject(root, "01", runs=2)
        bids.write_atlas(bids.atlas_path(root, "four"), LABELS, coordinates=np.eye(4, 3) / 3)
        bids.write_description(root, name="Test cohort", License="CC0")
        files = sorted(path for path in root.rglob("*") if path.is_file())
        written.append({path.relative_to(root): path.read_bytes() for path in files})
    assert len(written[0]) == 10
    assert written[0] == written[1]
    assert all(b"\r" not in content and content.endswith(b"\n") for content in written[0].values())


def test_columns_are_found_by_label(tmp_path: Path) -> None:
    data = np.arange(12.0).reshape(3, 4)
    path = bids.write_timeseries(tmp_path / "sub-01_timeseries.tsv", data, LABELS, 1.0)
    turned = [LABELS[at] for at in (2, 0, 3, 1)]
    back, labels = bids.read_timeseries(path, turned)
    assert labels == turned
    np.testing.assert_array_equal(back, data[:, [2, 0, 3, 1]])


@pytest.mark.parametrize("form", ["plain", "header", "header and first column", "numbered header"])
def test_connectomes_are_read_with_and_without_labels(tmp_path: Path, form: str) -> None:
    matrix = np.arange(16.0).reshape(4, 4) + 0.5
    labels = ["1", "2", "3", "4"] if form == "numbered header" else LABELS
    path = tmp_path / "sub-01_relmat.tsv"
    bids.write_relmat(path, matrix, labels=None if form == "plain" else labels)
    if form == "header and first column":
        lines = path.read_text().splitlines()
        named = [f"{name}\t{line}" for name, line in zip(["", *LABELS], lines, strict=True)]
        path.write_text("\n".join(named) + "\n")
    np.testing.assert_array_equal(bids.read_relmat(path, labels), matrix)
    if form != "plain":
        order = [3, 2, 1, 0]
        turned = bids.read_relmat(path, [labels[at] for at in order])
        np.testing.assert_array_equal(turned, matrix[np.ix_(order, order)])


def test_word_in_a_headerless_connectome_is_not_taken_for_a_header(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_relmat.tsv"
    path.write_text("0\tmany\n1\t0\n")
    with pytest.raises(DataError) as error:
        bids.read_relmat(path, ["a", "b"])
    assert str(error.value) == (
        f"{path}: sub-01 line 1, column 2 is 'many'; it must be a number, or n/a where there is none"
    )


def test_tables_saved_on_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_timeseries.tsv"
    path.write_bytes("\ufeffa\tb\r\n1\t2\r\n3\t4\r\n\r\n".encode())
    data, labels = bids.read_timeseries(path, ["a", "b"])
    assert labels == ["a", "b"]
    np.testing.assert_array_equal(data, [[1, 2], [3, 4]])


def test_atlas_table_round_trip(tmp_path: Path) -> None:
    path = bids.atlas_path(tmp_path, "four")
    xyz = np.array([[-30.5, 2, 3], [30.5, 2, 3], [-8, -80, 28], [np.nan] * 3])
    bids.write_atlas(path, LABELS, hemisphere=list("LRLR"), coordinates=xyz, homotope=[1, 0, -1, -1])
    atlas = bids.read_atlas(path)
    assert (atlas.labels, atlas.hemisphere) == (LABELS, ["L", "R", "L", "R"])
    np.testing.assert_array_equal(atlas.coordinates, xyz)
    np.testing.assert_array_equal(atlas.homotope, [1, 0, -1, -1])


def test_atlas_table_may_be_bare(tmp_path: Path) -> None:
    path = tmp_path / "atlas-x_dseg.tsv"
    path.write_text("name\nV1\nV2\n")
    atlas = bids.read_atlas(path)
    assert (atlas.labels, atlas.hemisphere, atlas.homotope) == (["V1", "V2"], ["n/a", "n/a"], None)
    assert np.isnan(atlas.coordinates).all()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("index\tlabel\n1\tV1\n", "columns are index, label; the table must have a column named name"),
        ("name\nV1\nV1\n", "column name has 'V1' more than once; give every region its own"),
        ("name\themisphere\nV1\tX\n", "hemisphere in line 2 is 'X'; it must be L, R or n/a"),
        (
            "name\tx\ty\tz\nV1\t1\tfar\t2\n",
            "line 2, column y is 'far'; it must be a number, or n/a where there is none",
        ),
        (
            "index\tname\thomotope\n1\tV1\tV9\n",
            "homotope of V1 is 'V9'; it must be the name or index of another region, or n/a",
        ),
        (
            "index\tname\thomotope\n1\tV1\t2\n2\tV2\tn/a\n",
            "homotope of V1 is V2 but not the other way round; mirror regions must name each other",
        ),
    ],
)
def test_wrong_atlas_tables_are_refused(tmp_path: Path, table: str, sentence: str) -> None:
    path = tmp_path / "atlas-x_dseg.tsv"
    path.write_text(table)
    with pytest.raises(DataError) as error:
        bids.read_atlas(path)
    assert str(error.value) == f"{path}: {sentence}"


def test_participants_keep_their_order_and_columns(root: Path) -> None:
    bids.write_participants(root, ["10", {"participant_id": "sub-2", "age": 31}])
    assert (root / "participants.tsv").read_text() == "participant_id\tage\nsub-10\tn/a\nsub-2\t31\n"
    assert bids.list_subjects(root) == ["10", "2"]
    assert bids.duplicate_subjects(root) == {}


def test_without_participants_the_folders_are_the_cohort(root: Path) -> None:
    (root / "participants.tsv").unlink()
    add_subject(root, "B")
    add_subject(root, "A")
    assert bids.list_subjects(root) == ["A", "B"]


def test_changed_participants_are_read_again(root: Path) -> None:
    assert bids.list_subjects(root) == ["01", "02"]
    bids.write_participants(root, ["01", "02", "03"])
    assert bids.list_subjects(root) == ["01", "02", "03"]


def test_label_that_is_no_file_name_is_refused(root: Path) -> None:
    bids.write_participants(root, ["01", "../02"])
    with pytest.raises(DataError) as error:
        bids.list_subjects(root)
    assert str(error.value) == (
        f"{root}/participants.tsv: participant_id in line 3 is 'sub-../02'; "
        "it must be sub- and then letters and digits only"
    )


def test_files_of_a_subject(root: Path) -> None:
    add_subject(root, "01", runs=11)
    add_subject(root, "02", runs=1, session="base")
    files = bids.subject_files(root, "01", "four", "rest")
    runs = [path.name.split("_")[2] for path in files["bold"]]
    assert runs == [f"run-{at}" for at in range(1, 12)]
    assert files["bold_json"] == [path.with_suffix(".json") for path in files["bold"]]
    assert bids.subject_files(root, "02", "four", "rest")["weight"].parent == root / "sub-02/ses-base/dwi"
    for label in ("01", "02"):
        assert bids.missing_files(root, label, "four", "rest") == []
        assert bids.input_problem(root, label, "four", "rest") == ""
    assert len(bids.missing_files(root, "01", "four", "motor")) == 1


def test_other_atlases_and_tasks_are_left_alone(root: Path) -> None:
    add_subject(root, "01")
    folder = root / "sub-01/func"
    for name in (
        "sub-01_task-rest_run-1_atlas-five_timeseries.tsv",
        "sub-01_task-motor_run-1_atlas-four_timeseries.tsv",
    ):
        (folder / name).write_text("a\n1\n")
    files = bids.subject_files(root, "01", "four", "rest")
    assert [path.name for path in files["bold"]] == ["sub-01_task-rest_run-1_atlas-four_timeseries.tsv"]


def test_seg_entity_means_the_atlas(root: Path) -> None:
    path = root / "sub-01/func/sub-01_task-rest_space-MNI_seg-four_stat-mean_timeseries.tsv"
    bids.write_timeseries(path, np.ones((3, 4)), LABELS, 2.0)
    assert bids.subject_files(root, "01", "four", "rest")["bold"] == [path]


def test_two_versions_of_one_run_are_refused(root: Path) -> None:
    add_subject(root, "01")
    other = root / "sub-01/func/sub-01_task-rest_run-1_atlas-four_desc-smooth_timeseries.tsv"
    bids.write_timeseries(other, np.ones((3, 4)), LABELS, 2.0)
    assert bids.input_problem(root, "01", "four", "rest") == (
        f"{root}/sub-01/func/sub-01_task-rest_run-1_atlas-four_timeseries.tsv: sub-01 has two files for the same run, "
        "the other is sub-01_task-rest_run-1_atlas-four_desc-smooth_timeseries.tsv; keep one of them in this folder"
    )


def test_sidecars_are_inherited_and_the_nearest_wins(root: Path) -> None:
    path = bids.timeseries_path(root, "01", task="rest", atlas="four")
    bids.write_timeseries(path, np.ones((3, 4)), LABELS, None)
    assert not path.with_suffix(".json").exists()

    def write(name: str, seconds: float) -> None:
        (root / name).write_text(json.dumps({"RepetitionTime": seconds, name: True}))

    write("task-motor_timeseries.json", 9.0)
    write("task-rest_bold.json", 8.0)
    with pytest.raises(DataError):
        bids.read_repetition_time(root, path)
    write("timeseries.json", 3.0)
    assert bids.read_repetition_time(root, path) == 3.0
    write("task-rest_timeseries.json", 2.0)
    assert bids.read_repetition_time(root, path) == 2.0
    write("sub-01/sub-01_timeseries.json", 1.0)
    assert bids.read_repetition_time(root, path) == 1.0
    write("sub-01/func/sub-01_task-rest_run-1_atlas-four_timeseries.json", 0.5)
    assert bids.read_repetition_time(root, path) == 0.5
    content, origin = bids.read_sidecar(root, path)
    assert content["timeseries.json"] and content["task-rest_timeseries.json"]
    assert "task-motor_timeseries.json" not in content
    assert origin["RepetitionTime"] == path.with_suffix(".json")
    assert bids.subject_files(root, "01", "four", "rest")["bold_json"][0] == root / "timeseries.json"


def test_sampling_frequency_stands_in_for_the_repetition_time(root: Path) -> None:
    path = bids.timeseries_path(root, "01", task="rest", atlas="four")
    bids.write_timeseries(path, np.ones((3, 4)), LABELS, None, meta={"SamplingFrequency": 1.25})
    assert bids.read_repetition_time(root, path) == 0.8


def test_input_modules_stay_light() -> None:
    import subprocess
    import sys

    code = "import sys, brainloom.io.bids; print(sorted({'jax', 'pandas', 'scipy', 'xarray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plain_numbers_are_read_as_cells_are(tmp_path):
    path, random = tmp_path / "sub-01_x.tsv", np.random.default_rng(0)
    cells = [
        [repr(float(value)) for value in row]
        for row in random.normal(size=(30, 3)) * 10.0 ** random.integers(-9, 9, (30, 3))
    ]
    text = "\n".join("\t".join(row) for row in [["a", "b", "c"], *cells])
    path.write_text(text + "\n\n")
    header, found = tables.read_plain_numbers(path)
    assert header == ["a", "b", "c"]
    np.testing.assert_array_equal(found, [[float(cell) for cell in row] for row in cells])
    for old, new in (
        ("\t", " "),
        ("\t", "\t\t"),
        (cells[3][1], "n/a"),
        (cells[3][1], "1 2"),
        (cells[3][1], ""),
        (cells[3][1], "1_0"),
    ):
        at = text.index(cells[3][0])
        path.write_text(text[:at] + text[at:].replace(old, new, 1))
        assert tables.read_plain_numbers(path) is None, (old, new)
