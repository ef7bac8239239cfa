"""Bad connectomes, tables and cohorts: one exact sentence with file, subject, field, value and what to do; the rest goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from spoiled_cohort import (
    ATLAS,
    EVERYWHERE,
    LABELS,
    LENGTH,
    PARTICIPANTS,
    ROOT,
    RUN1,
    RUN2,
    SUBJECTS,
    WEIGHT,
    Case,
    assert_only_02_is_refused,
    both,
    cell,
    change,
    index,
    lines,
    make_cohort,
    parametrize,
    params,
    preprocess,
    write,
)

from brainloom.io import bids


@pytest.fixture(autouse=True)
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good cohort at ``cohort/`` of the working directory."""
    monkeypatch.chdir(tmp_path)
    make_cohort()


CONNECTOME: list[Case] = [
    (
        "wrong shape",
        lines(WEIGHT, slice(0, 5)),
        f"{WEIGHT}: sub-02 matrix is 5 x 6; it must be 6 x 6, the regions of the atlas",
    ),
    (
        "ragged line",
        lambda: WEIGHT.write_text(WEIGHT.read_text().replace("\n", "\t7\n", 1)) and None,
        f"{WEIGHT}: sub-02 line 2 has 6 cells where line 1 has 7; "
        "every line must have the same number of tab-separated cells",
    ),
    ("empty file", write(WEIGHT, ""), f"{WEIGHT}: sub-02 table is empty; write the file again"),
    (
        "not a number",
        change(WEIGHT, 2, 3, "many"),
        f"{WEIGHT}: sub-02 line 3, column 4 is 'many'; it must be a number, or n/a where there is none",
    ),
    (
        "not text",
        lambda: WEIGHT.write_bytes(b"0\t1\n\xff\xfe\n") and None,
        f"{WEIGHT}: sub-02 file is not UTF-8 text (byte 4); save it as a tab-separated table",
    ),
    (
        "NaN region",
        both(change(WEIGHT, 4, EVERYWHERE, "n/a"), change(WEIGHT, EVERYWHERE, 4, "NaN")),
        f"{WEIGHT}: sub-02 region 'A1_L' has 5 of 5 weights that are not numbers; "
        "write 0 where there is no connection, or leave the region or the subject out",
    ),
    (
        "infinite weight",
        change(WEIGHT, 0, 1, "inf"),
        f"{WEIGHT}: sub-02 region 'V1_L' has 1 of 5 weights that are not numbers; "
        "write 0 where there is no connection, or leave the region or the subject out",
    ),
    (
        "negative weight",
        both(change(WEIGHT, 1, 3, "-2.5"), change(WEIGHT, 3, 1, "-2.5")),
        f"{WEIGHT}: sub-02 weight from 'M1_R' to 'V1_R' is -2.5; a weight cannot be negative, so correct the table",
    ),
    (
        "disconnected region",
        both(change(WEIGHT, 3, EVERYWHERE, "0"), change(WEIGHT, EVERYWHERE, 3, "0")),
        f"{WEIGHT}: sub-02 region 'M1_R' has only weights of 0; "
        "leave the region out of the atlas and all tables, or leave the subject out",
    ),
    (
        "only a self-connection",
        both(
            change(WEIGHT, 3, EVERYWHERE, "0"), change(WEIGHT, EVERYWHERE, 3, "0"), change(WEIGHT, 3, 3, "5")
        ),
        f"{WEIGHT}: sub-02 region 'M1_R' has only weights of 0; "
        "leave the region out of the atlas and all tables, or leave the subject out",
    ),
    (
        "no connection at all",
        change(WEIGHT, EVERYWHERE, EVERYWHERE, "0"),
        f"{WEIGHT}: sub-02 region 'V1_L' has only weights of 0 (6 such regions); "
        "leave the region out of the atlas and all tables, or leave the subject out",
    ),
    (
        "negative length",
        change(LENGTH, 1, 0, "-40"),
        f"{LENGTH}: sub-02 length from 'V1_L' to 'V1_R' is -40; a length cannot be negative, so correct the table",
    ),
    (
        "connection without length",
        both(
            change(LENGTH, 1, 0, "n/a"),
            change(LENGTH, 0, 1, "n/a"),
            change(WEIGHT, 0, 1, "8"),
            change(WEIGHT, 1, 0, "8"),
        ),
        f"{LENGTH}: sub-02 length from 'V1_R' to 'V1_L' is n/a although the weight is 8; "
        "every connection needs a length in mm",
    ),
    (
        "labels differ",
        lambda: WEIGHT.write_text("\t".join([*LABELS[:5], "A1_X"]) + "\n" + WEIGHT.read_text()) and None,
        f"{WEIGHT}: sub-02 header lacks the atlas region 'A1_R' (1 more labels differ); "
        "use the names of the atlas table as header",
    ),
]

FILES: list[Case] = [
    (
        "missing file",
        lambda: WEIGHT.unlink(),
        f"{WEIGHT}: sub-02 lacks this file; add what is missing or leave the subject out",
    ),
    (
        "missing folder",
        lambda: shutil.rmtree(ROOT / "sub-02"),
        f"{WEIGHT}: sub-02 lacks this file and 2 more of its files; add what is missing or leave the subject out",
    ),
    (
        "missing runs",
        both(lambda: RUN1.unlink(), lambda: RUN2.unlink()),
        f"{RUN1}: sub-02 lacks this file; add what is missing or leave the subject out",
    ),
]


def test_good_cohort_is_used() -> None:
    assert index() == (0, dict.fromkeys(SUBJECTS, ("yes", "")))
    for kind in ("connectome", "signal"):
        assert preprocess(kind) == dict.fromkeys(SUBJECTS, ("ok", ""))


@parametrize(CONNECTOME)
def test_bad_connectome(spoil: Callable[[], None], sentence: str) -> None:
    spoil()
    assert_only_02_is_refused(sentence)
    assert preprocess("connectome") == {"01": ("ok", ""), "02": ("failed", sentence), "03": ("ok", "")}


@parametrize(FILES)
def test_missing_files(spoil: Callable[[], None], sentence: str) -> None:
    spoil()
    assert_only_02_is_refused(sentence)
    assert bids.input_problem(ROOT, "02", "six", "rest") == sentence


def test_missing_file_fails_only_its_subject_in_the_step_too() -> None:
    WEIGHT.unlink()
    sentence = f"{WEIGHT}: sub-02 file not found; add the file or leave the subject out"
    assert preprocess("connectome") == {"01": ("ok", ""), "02": ("failed", sentence), "03": ("ok", "")}


def test_asymmetric_weights() -> None:
    other = cell(WEIGHT, 4, 2)
    change(WEIGHT, 2, 4, "77.25")()
    assert index()[1]["02"] == ("yes", "")
    sentence = (
        f"{WEIGHT}: sub-02 weight from 'A1_L' to 'M1_L' is 77.25 and {other} the other way; "
        "set connectome.symmetrise to true or make the table symmetric"
    )
    assert_only_02_is_refused(sentence, connectome={"symmetrise": False})
    assert preprocess("connectome", connectome={"symmetrise": False})["02"] == ("failed", sentence)


def test_asymmetric_lengths() -> None:
    other = cell(LENGTH, 1, 0)
    change(LENGTH, 0, 1, "12.5")()
    assert_only_02_is_refused(
        f"{LENGTH}: sub-02 length from 'V1_R' to 'V1_L' is 12.5 and {other} the other way; "
        "set connectome.symmetrise to true or make the table symmetric",
        connectome={"symmetrise": False},
    )


def test_weight_in_one_direction_only_is_a_connection() -> None:
    both(change(WEIGHT, 3, EVERYWHERE, "0"), change(LENGTH, EVERYWHERE, 3, "n/a"))()
    assert index()[1]["02"] == ("yes", "")
    assert preprocess("connectome")["02"] == ("ok", "")


def test_length_that_nothing_gives() -> None:
    apart = np.kron(np.eye(2), np.ones((3, 3))) - np.eye(6)
    bids.write_relmat(WEIGHT, apart)
    bids.write_relmat(LENGTH, 50 * apart)
    assert_only_02_is_refused(
        f"{LENGTH}: sub-02 length from 'M1_R' to 'V1_L' is missing and no chain of connections links the two; "
        "give this length in mm"
    )


def test_duplicate_subject() -> None:
    bids.write_participants(ROOT, ["01", "02", "03", "02"])
    sentence = (
        f"{PARTICIPANTS}: participant_id sub-02 is listed 2 times (lines 3, 5); keep one line a subject"
    )
    assert_only_02_is_refused(sentence)
    assert preprocess("connectome") == {"01": ("ok", ""), "02": ("failed", sentence), "03": ("ok", "")}
    assert bids.input_problem(ROOT, "02", "six", "rest") == sentence


def test_subject_that_is_not_in_the_table() -> None:
    code, rows = index(subjects=["01", "09"])
    sentence = (
        f"{PARTICIPANTS}: sub-09 is not in this table; add its line, or correct subjects in the configuration"
    )
    assert (code, rows) == (0, {"01": ("yes", ""), "09": ("no", sentence)})


def test_only_the_wanted_subjects_are_checked() -> None:
    WEIGHT.unlink()
    assert index(subjects=["03", "01"]) == (0, {"03": ("yes", ""), "01": ("yes", "")})


def test_broken_atlas_table_stops_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    change(ATLAS, 2, 1, "V1_L")()
    sentence = f"{ATLAS}: column name has 'V1_L' more than once; give every region its own"
    assert index() == (2, dict.fromkeys(SUBJECTS, ("no", sentence)))
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == f"error: no subject of 3 can be used; the first one: {sentence}"
    )


def test_ambiguous_mirror_regions() -> None:
    for path in ROOT.rglob("*.tsv"):
        path.write_text(path.read_text().replace("V1_R", "V1_lh"))
    sentence = (
        f"{ATLAS}: atlas regions 'V1_L' and 'V1_lh' are the same side of one name; "
        "rename one, or give the atlas table a column named homotope"
    )
    assert index() == (2, dict.fromkeys(SUBJECTS, ("no", sentence)))
    assert preprocess("connectome") == dict.fromkeys(SUBJECTS, ("failed", sentence))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda: shutil.rmtree(ROOT),
            f"{ROOT}: input folder not found; correct input.path in the configuration",
        ),
        (
            write(PARTICIPANTS, "subject\nsub-01\n"),
            f"{PARTICIPANTS}: first column is 'subject'; the table must have a column named participant_id",
        ),
        (
            write(PARTICIPANTS, "participant_id\n"),
            f"{ROOT}: no subjects found; add participants.tsv and one folder sub-<label> each",
        ),
    ],
)
def test_unusable_cohort_is_one_line_without_traceback(spoil: Callable[[], None], sentence: str) -> None:
    spoil()
    command = [
        sys.executable,
        "-m",
        "brainloom.steps.index_cohort",
        "--input",
        str(ROOT),
        "--output",
        "index.tsv",
    ]
    done = subprocess.run([*command, "--params", params()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"error: {sentence}\n")
    assert not Path("index.tsv").exists()
