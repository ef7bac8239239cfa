"""The command line and the loop that all steps share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from brainloom.core.errors import ConfigError, DataError
from brainloom.core.provenance import file_sha256, json_hash
from brainloom.steps._common import guarded, parse, run_batch, run_subjects
from brainloom.store import is_failed, read_attrs, read_dataset, write_dataset

PARAMS = {"study": "demo", "seed": 4, "precision": "float64", "fit": {"starts": 3}}
TEXT = json.dumps(PARAMS)


def connectome(path: Path, subject: str, value: float = 1.0) -> Path:
    ds = xr.Dataset(
        {"weights": (("region", "region_to"), np.full((2, 2), value))},
        attrs={"kind": "connectome", "subject": subject, "status": "ok", "reason": ""},
    )
    write_dataset(path, ds)
    return path


def fit_args(tmp_path: Path, connectomes, donors=None, outputs=None):
    lists = ["connectome", *(["donor"] if donors else []), "output"]
    outputs = outputs or [tmp_path / f"fit-{i}.zarr.zip" for i in range(len(connectomes))]
    argv = ["--connectome", *map(str, connectomes)]
    argv += ["--donor", *map(str, donors)] if donors else []
    return parse("fit", lists=lists, argv=[*argv, "--output", *map(str, outputs), "--params", TEXT])


def total(subject, inputs, args):
    return xr.Dataset({"total": inputs["connectome"].weights.sum()}, attrs={"note": "kept"})


def test_each_subject_gets_its_own_dataset_with_the_common_attributes(tmp_path, capsys):
    files = [connectome(tmp_path / f"c{i}.zarr.zip", f"0{i}", i) for i in (1, 2)]
    args = fit_args(tmp_path, files)
    assert run_subjects(args, total) == 0
    for i, (file, output) in enumerate(zip(files, args.output, strict=True), start=1):
        ds = read_dataset(output)
        assert ds.total.item() == 4 * i
        assert ds.attrs["note"] == "kept"
        wanted = {
            "kind": "fit",
            "subject": f"0{i}",
            "study": "demo",
            "status": "ok",
            "reason": "",
            "step": "fit",
        }
        assert wanted.items() <= ds.attrs.items()
        assert (ds.attrs["seed"], ds.attrs["precision"]) == (4, "float64")
        assert ds.attrs["config_hash"] == json_hash(PARAMS)
        assert json.loads(ds.attrs["input_hashes"]) == {"connectome": read_attrs(file)["content_hash"]}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("fit sub-01: ok")


def test_the_result_does_not_depend_on_the_batch(tmp_path):
    files = [connectome(tmp_path / f"c{i}.zarr.zip", f"0{i}", i) for i in (1, 2)]
    run_subjects(fit_args(tmp_path, files), total)
    alone = tmp_path / "alone.zarr.zip"
    run_subjects(fit_args(tmp_path, files[1:], outputs=[alone]), total)
    assert alone.read_bytes() == (tmp_path / "fit-1.zarr.zip").read_bytes()


def test_bad_data_of_one_subject_excludes_only_that_subject(tmp_path, capsys):
    files = [connectome(tmp_path / f"c{i}.zarr.zip", f"0{i}") for i in (1, 2, 3)]

    def work(subject, inputs, args):
        if subject == "02":
            raise DataError("sub-02: region Left_A is constant; exclude it")
        return total(subject, inputs, args)

    args = fit_args(tmp_path, files)
    assert run_subjects(args, work) == 0
    found = [read_dataset(path) for path in args.output]
    assert [is_failed(ds) for ds in found] == [False, True, False]
    assert found[1].attrs["reason"] == "sub-02: region Left_A is constant; exclude it"
    assert (found[1].attrs["kind"], found[1].attrs["study"]) == ("fit", "demo")
    err = capsys.readouterr().err
    assert "fit sub-02: excluded: sub-02: region Left_A is constant" in err
    assert "Traceback" not in err

    # The next step passes it on without looking at it.
    def never(subject, inputs, args):
        assert subject != "02"
        return xr.Dataset({"sd": ((), 1.0)})

    outputs = [tmp_path / f"p{i}.zarr.zip" for i in range(3)]
    next_args = parse(
        "identify",
        lists=["connectome", "fit", "output"],
        argv=[
            "--connectome",
            *map(str, files),
            "--fit",
            *map(str, args.output),
            "--output",
            *map(str, outputs),
            "--params",
            TEXT,
        ],
    )
    assert run_subjects(next_args, never) == 0
    passed = read_attrs(outputs[1])
    assert (passed["kind"], passed["status"], passed["reason"]) == (
        "posterior",
        "failed",
        found[1].attrs["reason"],
    )


def test_subjects_of_one_call_are_told_apart(tmp_path):
    files = [connectome(tmp_path / f"c{i}.zarr.zip", f"0{i}", i) for i in range(1, 6)]
    calls = []

    def work(subjects, inputs, args):
        calls.append(list(subjects))
        made = [total(s, one, args) for s, one in zip(subjects, inputs, strict=True)]
        return [DataError(f"sub-{s}: no") if s == "02" else ds for s, ds in zip(subjects, made, strict=True)]

    def raw_inputs(subject, args):
        if subject == "04":
            raise DataError("sub-04: its file is gone")
        return []

    args = fit_args(tmp_path, files)
    assert run_batch(args, work, size=2, raw_inputs=raw_inputs) == 0
    assert calls == [["01", "02"], ["03"], ["05"]]
    found = [read_dataset(path) for path in args.output]
    assert [ds.attrs["reason"] for ds in found] == ["", "sub-02: no", "", "sub-04: its file is gone", ""]
    assert [found[k].total.item() for k in (0, 2, 4)] == [4.0, 12.0, 20.0]
    alone = tmp_path / "alone.zarr.zip"
    run_batch(fit_args(tmp_path, files[2:3], outputs=[alone]), work)
    assert alone.read_bytes() == args.output[2].read_bytes()


def test_a_failed_donor_is_the_business_of_the_step(tmp_path):
    good = connectome(tmp_path / "c1.zarr.zip", "01")
    bad_args = parse(
        "preprocess_connectome",
        lists=["subject", "output"],
        argv=["--subject", "02", "--output", str(tmp_path / "c2.zarr.zip"), "--params", TEXT],
    )

    def refuse(subject, inputs, args):
        raise DataError(f"sub-{subject} has no connectome")

    run_subjects(bad_args, refuse)
    seen = []

    def work(subject, inputs, args):
        seen.append(is_failed(inputs["donor"]))
        return total(subject, inputs, args)

    args = fit_args(tmp_path, [good], donors=[tmp_path / "c2.zarr.zip"])
    assert run_subjects(args, work, tolerate=["donor"]) == 0
    assert seen == [True]
    assert read_attrs(args.output[0])["status"] == "ok"
    assert run_subjects(args, work) == 0
    assert read_attrs(args.output[0])["reason"] == "sub-02 has no connectome"


def test_raw_inputs_are_hashed_under_their_name_in_the_input_folder(tmp_path):
    raw = tmp_path / "in" / "sub-01" / "weights.tsv"
    raw.parent.mkdir(parents=True)
    raw.write_text("0 1\n")
    args = parse(
        "preprocess_connectome",
        lists=["subject", "output"],
        singles=["input"],
        argv=[
            "--input",
            str(tmp_path / "in"),
            "--subject",
            "01",
            "--output",
            str(tmp_path / "o.zarr.zip"),
            "--params",
            TEXT,
        ],
    )
    assert run_subjects(args, lambda *_: xr.Dataset(), raw_inputs=lambda s, a: [raw]) == 0
    assert json.loads(read_attrs(tmp_path / "o.zarr.zip")["input_hashes"]) == {
        "sub-01/weights.tsv": file_sha256(raw)
    }


def test_lists_in_different_orders_are_noticed(tmp_path, capsys):
    files = [connectome(tmp_path / f"c{i}.zarr.zip", f"0{i}") for i in (1, 2)]
    args = fit_args(tmp_path, files)
    run_subjects(args, total)
    mixed = parse(
        "identify",
        lists=["connectome", "fit", "output"],
        argv=[
            "--connectome",
            str(files[0]),
            "--fit",
            str(args.output[1]),
            "--output",
            str(tmp_path / "p.zarr.zip"),
            "--params",
            TEXT,
        ],
    )
    capsys.readouterr()
    assert run_subjects(mixed, total) == 2
    assert "belong to different subjects (01, 02)" in capsys.readouterr().err
    assert not (tmp_path / "p.zarr.zip").exists()


def test_a_dataset_of_another_kind_is_refused(tmp_path, capsys):
    file = connectome(tmp_path / "c.zarr.zip", "01")
    args = parse(
        "identify",
        lists=["fit", "output"],
        argv=["--fit", str(file), "--output", str(tmp_path / "p.zarr.zip"), "--params", TEXT],
    )
    assert run_subjects(args, total) == 2
    assert "kind 'connectome'; give one of kind 'fit'" in capsys.readouterr().err


def test_unexpected_exceptions_propagate(tmp_path):
    file = connectome(tmp_path / "c.zarr.zip", "01")

    def work(subject, inputs, args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_subjects(fit_args(tmp_path, [file]), work)
    assert not (tmp_path / "fit-0.zarr.zip").exists()


def test_guarded_turns_expected_errors_into_one_line(capsys):
    def job():
        raise ConfigError("config.yaml: fit.starts is -1; it must be at least 1")

    assert guarded(job) == 2
    assert capsys.readouterr().err == "error: config.yaml: fit.starts is -1; it must be at least 1\n"
    assert guarded(lambda: None) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--fit", "a", "--output", "b"], "--params"),
        (["--output", "b", "--params", TEXT], "--fit"),
        (["--fit", "a", "c", "--output", "b", "--params", TEXT], "--fit 2, --output 1"),
        (["--fit", "a", "--output", "b", "--params", "{"], "not JSON"),
        (["--fit", "a", "--output", "b", "--params", "[1]"], "must be an object"),
        (["--fit", "a", "--output", "b", "--params", '{"study": "x", "precision": "float64"}'], "no 'seed'"),
        (
            ["--fit", "a", "--output", "b", "--params", '{"study": "x", "seed": 0, "precision": "double"}'],
            "precision is 'double'; it must be one of float64, float32",
        ),
        (["--fit", "a", "--output", "b", "--params", TEXT, "--threads", "0"], "--threads is 0"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(argv, words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("identify", lists=["fit", "output"], argv=argv)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_optional_arguments_may_be_left_out():
    argv = ["--output", "r.html", "--params", TEXT]
    args = parse("report", singles=["output"], optional=["truth"], argv=argv)
    assert args.truth is None
    args = parse("report", singles=["output"], optional=["truth"], argv=[*argv, "--truth", "t.tsv"])
    assert args.truth == Path("t.tsv")
