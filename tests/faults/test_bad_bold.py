"""Bad BOLD: one exact sentence with file, subject, field, value and what to do, and the rest of the cohort goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from spoiled_cohort import (
    ROOT,
    RUN1,
    RUN2,
    SUBJECTS,
    Case,
    assert_only_02_is_refused,
    both,
    cell,
    change,
    index,
    lines,
    make_cohort,
    parametrize,
    preprocess,
    write,
)

from brainloom.io import bids


@pytest.fixture(autouse=True)
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good cohort at ``cohort/`` of the working directory."""
    monkeypatch.chdir(tmp_path)
    make_cohort()


BOLD: list[Case] = [
    (
        "NaN region",
        change(RUN1, slice(1, None), 2, "n/a"),
        f"{RUN1}: sub-02 region 'M1_L' has 400 of 400 frames that are not numbers, the first in line 2; "
        "leave the region or the subject out, or fill the frames",
    ),
    (
        "one NaN in the second run",
        change(RUN2, 10, 5, "nan"),
        f"{RUN2}: sub-02 region 'A1_R' has 1 of 400 frames that are not numbers, the first in line 11; "
        "leave the region or the subject out, or fill the frames",
    ),
    (
        "word in a cell",
        change(RUN1, 7, 1, "12,5"),
        f"{RUN1}: sub-02 line 8, column V1_R is '12,5'; it must be a number, or n/a where there is none",
    ),
    (
        "zero variance",
        change(RUN1, slice(1, None), 3, "9000.1"),
        f"{RUN1}: sub-02 region 'M1_R' is 9000.1 in all frames of lines 7 to 203; leave the region or the subject out",
    ),
    (
        "zero variance in the second half only",
        change(RUN2, slice(200, None), 3, "0"),
        f"{RUN2}: sub-02 region 'M1_R' is 0 in all frames of lines 204 to 401; leave the region or the subject out",
    ),
    (
        "region missing in the header",
        change(RUN1, 0, 4, "A1_M"),
        f"{RUN1}: sub-02 header lacks the atlas region 'A1_L' (1 more labels differ); "
        "use the names of the atlas table as header",
    ),
    (
        "region too many",
        lambda: (
            RUN1.write_text(
                "".join(
                    f"{line}\t{'Extra' if at == 0 else at}\n"
                    for at, line in enumerate(RUN1.read_text().splitlines())
                )
            )
            and None
        ),
        f"{RUN1}: sub-02 header has 'Extra', which the atlas lacks; use the names of the atlas table as header",
    ),
    (
        "same label twice",
        change(RUN1, 0, 4, "V1_L"),
        f"{RUN1}: sub-02 header has 'V1_L' more than once; give every region its own",
    ),
    (
        "no header",
        lines(RUN1, slice(1, None)),
        "{RUN1}: sub-02 line 1 starts with {first!r}; it must be a header with the region labels",
    ),
    (
        "no frames",
        lines(RUN1, slice(0, 1)),
        f"{RUN1}: sub-02 table has a header and no frames; write the recording into it",
    ),
    (
        "too short",
        lines(RUN2, slice(0, 251)),
        f"{RUN2}: sub-02 has 250 frames, which leaves 122 for each half; at least 139 are needed "
        "(one period of 0.01 Hz, the lower end of signal.band), so add a longer run or leave the subject out",
    ),
    (
        "repetition time missing",
        write(RUN1.with_suffix(".json"), "{}"),
        f"{RUN1.with_suffix('.json')}: sub-02 RepetitionTime is missing; "
        "add it in seconds, or set signal.tr in the configuration",
    ),
    (
        "sidecar missing",
        lambda: RUN2.with_suffix(".json").unlink(),
        f"{RUN2.with_suffix('.json')}: sub-02 RepetitionTime is missing; "
        "add it in seconds, or set signal.tr in the configuration",
    ),
    (
        "repetition time in milliseconds",
        write(RUN1.with_suffix(".json"), '{"RepetitionTime": 720}'),
        f"{RUN1.with_suffix('.json')}: sub-02 RepetitionTime is 720; "
        "it must be a positive number of seconds (is 720 in milliseconds?)",
    ),
    (
        "repetition time is a word",
        write(RUN1.with_suffix(".json"), '{"RepetitionTime": "0.72 s"}'),
        f"{RUN1.with_suffix('.json')}: sub-02 RepetitionTime is '0.72 s'; it must be a positive number of seconds",
    ),
    (
        "sidecar is no JSON",
        write(RUN1.with_suffix(".json"), '{\n"RepetitionTime": 0,72}'),
        f"{RUN1.with_suffix('.json')}: sub-02 file is not valid JSON "
        "(line 2: Expecting property name enclosed in double quotes); correct that line",
    ),
    (
        "runs disagree",
        write(RUN2.with_suffix(".json"), '{"RepetitionTime": 0.8}'),
        f"{RUN2.with_suffix('.json')}: sub-02 RepetitionTime is 0.8 s but 0.72 s in {RUN1.with_suffix('.json').name}; "
        "all runs of a subject must have the same",
    ),
    (
        "band above the Nyquist frequency",
        both(
            *(write(run.with_suffix(".json"), '{"RepetitionTime": 6}') for run in (RUN1, RUN2)),
        ),
        f"{RUN1}: sub-02 repetition time is 6 s, so frequencies end at 0.08333 Hz but signal.band ends at 0.1 Hz; "
        "lower signal.band",
    ),
]


@parametrize(BOLD)
def test_bad_bold(spoil: Callable[[], None], sentence: str) -> None:
    first = cell(RUN1, 1, 0)
    spoil()
    sentence = sentence.replace("{RUN1}", str(RUN1)).replace("{first!r}", repr(first))
    assert_only_02_is_refused(sentence)
    assert preprocess("signal", ["02"]) == {"02": ("failed", sentence)}


def test_rest_of_the_batch_goes_on() -> None:
    change(RUN1, slice(1, None), 2, "n/a")()
    status = preprocess("signal")
    assert {subject: status[subject][0] for subject in SUBJECTS} == {"01": "ok", "02": "failed", "03": "ok"}


def test_too_few_runs() -> None:
    RUN2.unlink()
    assert_only_02_is_refused(
        f"{RUN1}: sub-02 has only this run but signal.splits is runs; add a second run, or set signal.splits to halves",
        signal={"splits": "runs"},
    )


def test_too_few_sessions() -> None:
    for path in sorted(ROOT.glob("sub-*/func/*run-2*")):
        label = "a" if "sub-02" in path.name else "b"
        folder = path.parent.parent / f"ses-{label}" / "func"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name.replace("_task", f"_ses-{label}_task"))
    RUN1.rename(RUN1.parent.parent / "ses-a/func" / RUN1.name.replace("_task", "_ses-a_task"))
    RUN1.with_suffix(".json").rename(
        RUN1.parent.parent / "ses-a/func" / RUN1.with_suffix(".json").name.replace("_task", "_ses-a_task")
    )
    first = RUN1.parent.parent / "ses-a/func" / RUN1.name.replace("_task", "_ses-a_task")
    sentence = (
        f"{first}: sub-02 has only the session ses-a but signal.splits is sessions; add recordings of a second session, "
        "or set signal.splits to runs"
    )
    # of the others, the run without a session is one, and comes first
    assert_only_02_is_refused(sentence, signal={"splits": "sessions"})
    assert preprocess("signal", ["02"], signal={"splits": "sessions"}) == {"02": ("failed", sentence)}


def test_no_sessions_at_all() -> None:
    code, rows = index(signal={"splits": "sessions"})
    assert code == 2
    assert rows["02"][1] == (
        f"{RUN1}: sub-02 has no sessions (ses-<label> in names of files) but signal.splits is sessions; "
        "add recordings of a second session, or set signal.splits to runs"
    )


def test_runs_too_short_for_blocks() -> None:
    lines(RUN2, slice(0, 340))()
    assert_only_02_is_refused(
        f"{RUN2}: sub-02 has 339 frames, which leaves 334 for two blocks of 167 (signal.block) and a gap of 14; "
        "shorten signal.block, or set signal.splits to halves",
        signal={"splits": "blocks", "block": 120.0, "gap": 10.0},
    )
    # without a gap in the configuration it is the decorrelation time of the run, known when it is preprocessed
    assert index(signal={"splits": "blocks", "block": 120.0})[1]["02"] == ("yes", "")
    status, reason = preprocess("signal", ["02"], signal={"splits": "blocks", "block": 120.0})["02"]
    assert status == "failed"
    assert "sub-02: run 2 has 334 frames, too few for two blocks of 167 and a gap of" in reason
    lines(RUN2, slice(0, 300))()
    assert_only_02_is_refused(
        f"{RUN2}: sub-02 has 299 frames, which leaves 147 for a block; at least 156 are needed (three times the padding "
        "of the filter), so set a longer signal.block or leave the subject out",
        signal={"splits": "blocks", "block": 101.0, "filter_order": 8},
    )


def test_short_runs_suffice_when_they_are_not_halved() -> None:
    lines(RUN2, slice(0, 145))()
    assert index(signal={"splits": "runs"})[1]["02"] == ("yes", "")
    lines(RUN2, slice(0, 144))()
    assert_only_02_is_refused(
        f"{RUN2}: sub-02 has 143 frames, which leaves 138 for the run; at least 139 are needed "
        "(one period of 0.01 Hz, the lower end of signal.band), so add a longer run or leave the subject out",
        signal={"splits": "runs"},
    )


def test_repetition_time_of_the_configuration() -> None:
    RUN1.with_suffix(".json").unlink()
    assert index(signal={"tr": 0.72}) == (0, dict.fromkeys(SUBJECTS, ("yes", "")))
    code, rows = index(signal={"tr": 2.0})
    assert code == 2
    json_of_03 = Path(str(RUN1.with_suffix(".json")).replace("02", "03"))
    assert rows["03"] == (
        "no",
        f"{json_of_03}: sub-03 RepetitionTime is 0.72 s but signal.tr is 2 s; "
        "correct the one that is wrong, or set signal.tr to null",
    )


def test_repetition_time_may_stand_in_the_root_folder() -> None:
    for run in (RUN1, RUN2):
        run.with_suffix(".json").unlink()
    (ROOT / "task-rest_timeseries.json").write_text('{"RepetitionTime": 0.72}')
    assert index() == (0, dict.fromkeys(SUBJECTS, ("yes", "")))


def test_columns_in_another_order_are_no_fault() -> None:
    data, labels = bids.read_timeseries(RUN1)
    bids.write_timeseries(RUN1, data[:, ::-1], labels[::-1], 0.72)
    assert index()[1]["02"] == ("yes", "")
