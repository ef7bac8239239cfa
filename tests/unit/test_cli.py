"""The command: exit codes, one-sentence errors, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from toy_cohort import toy_config, write_cohort

from brainloom.cli import main
from brainloom.cohort.layout import KINDS, dataset
from brainloom.cohort.plan import plan_study, save_batches
from brainloom.cohort.status import COHORT_FILES, read_status, run_summary
from brainloom.store import failed_dataset, read_dataset, write_dataset

SUBJECTS = ["01", "02", "03"]
RUN = Path("cohort/sub-02/func/sub-02_task-rest_run-1_atlas-four_timeseries.tsv")


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Three good subjects and a configuration ``mine.yaml`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_cohort(Path("cohort"), SUBJECTS)
    write_config()


def write_config(**changes: object) -> None:
    config = {"study": "toy", "input": {"path": "cohort", "atlas": "four"}} | changes
    Path("mine.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def results(cohort):
    """A finished study ``toy`` of the three."""
    save_batches(plan_study(toy_config()))
    for subject in SUBJECTS:
        for kind in KINDS:
            ds = xr.Dataset({"x": ("place", np.arange(3.0))}, attrs={"status": "ok", "reason": ""})
            write_dataset(dataset("toy", subject, kind), ds.assign_attrs(kind=kind, subject=subject))
    for name in COHORT_FILES:
        Path("results/toy", name).write_text("")
    rows = ["subject\tincluded\treason", *(f"{subject}\tyes\t" for subject in SUBJECTS)]
    for name in ("index.tsv", "cohort.tsv"):
        Path("results/toy", name).write_text("\n".join(rows) + "\n")


def fail(subject: str, kind: str, reason: str) -> None:
    ds = failed_dataset(kind, subject, reason)
    write_dataset(dataset("toy", subject, kind), ds)


def error(capsys, *words: str) -> str:
    """The one line of a command that could not do its work."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_check_accepts_a_good_study(cohort, capsys):
    assert main(["check", "mine.yaml"]) == 0
    assert "configuration ok, 3 of 3 subjects can be used" in capsys.readouterr().out
    assert not Path("results").exists()


def test_check_names_every_bad_subject(cohort, capsys):
    RUN.unlink()
    table = Path("cohort/sub-03/dwi/sub-03_atlas-four_meas-weight_relmat.tsv")
    table.write_text(table.read_text().replace("0.", "-0.", 1))
    assert main(["check", "mine.yaml"]) == 1
    said = capsys.readouterr().out
    assert "1 of 3 subjects can be used" in said
    assert f"{RUN}: sub-02 lacks this file" in said
    assert str(table) in said


def test_check_names_a_bad_configuration(cohort, capsys):
    write_config(fit={"starts": -1})
    assert main(["check", "mine.yaml"]) == 1
    assert capsys.readouterr().out == "mine.yaml: fit.starts is -1; it must be at least 1\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": {"path": "nowhere", "atlas": "four"}}, "nowhere: input folder not found"),
        (
            {"simulate": {"dt": 0.1}},
            "simulate.dt is 0.1; it must divide the repetition time 0.72 s, such as 0.09",
        ),
        (
            {"input": {"path": "cohort", "atlas": "four", "truth": "t.tsv"}},
            "t.tsv is not a file; correct input.truth",
        ),
        ({"subjects": ["01", "88"]}, "sub-88"),
    ],
)
def test_check_names_what_does_not_fit_the_files(cohort, capsys, changes, said):
    write_config(**changes)
    assert main(["check", "mine.yaml"]) == 1
    assert said in capsys.readouterr().out


def test_check_says_when_the_data_come_later(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(Path(__file__).parents[2] / "config/studies/hcp.yaml")]) == 0
    assert "resources/hcp is not there yet" in capsys.readouterr().out


def test_status_of_a_finished_study(results, capsys):
    assert main(["status", "toy"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 subjects included, 0 excluded" in said
    assert "missing:" not in said
    for step in ("preprocess_connectome", "fit", "analyse"):
        assert next(line for line in said.splitlines() if line.startswith(step)).split()[1:] == [
            "3",
            "0",
            "0",
        ]


@pytest.mark.parametrize("name", ["toy", "results/toy", "results/toy/", "mine.yaml"])
def test_status_takes_the_name_the_folder_or_the_configuration(results, name):
    assert main(["status", name]) == 0


def test_status_counts_what_is_not_done(results, capsys):
    Path(dataset("toy", "02", "simulation")).unlink()
    Path("results/toy/report.html").unlink()
    assert main(["status", "toy"]) == 1
    said = capsys.readouterr().out
    assert next(line for line in said.splitlines() if line.startswith("simulate")).split()[1:] == [
        "2",
        "0",
        "1",
    ]
    assert "missing: report.html" in said


def test_status_says_whom_it_leaves_out_and_why(results, capsys):
    fail("02", "fit", "the fit of sub-02 diverged")
    with open("results/toy/index.tsv", "a") as file:
        file.write("09\tno\tfile is not there\n")
    assert main(["status", "toy"]) == 1
    said = capsys.readouterr().out
    assert "2 of 4 subjects included, 2 excluded" in said
    assert "excluded sub-02: the fit of sub-02 diverged" in said
    assert "excluded sub-09: file is not there" in said


def test_status_names_a_damaged_dataset(results, capsys):
    path = Path(dataset("toy", "03", "fit"))
    path.write_bytes(path.read_bytes()[:100])
    assert main(["status", "toy"]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out


def test_status_before_the_first_index(cohort):
    save_batches(plan_study(toy_config()))
    status = read_status("toy")
    assert status.subjects == tuple(SUBJECTS)
    assert status.steps["fit"] == {"done": 0, "failed": 0, "missing": 3}
    assert not status.complete


def test_status_of_no_study_is_an_error(cohort, capsys):
    assert "results/other has no results of a study" in error(capsys, "status", "other")


def test_status_of_a_broken_index_is_an_error(results, capsys):
    Path("results/toy/index.tsv").write_text("label\n01\n")
    assert "lacks one of the columns subject, included, reason" in error(capsys, "status", "toy")


def test_the_summary_of_a_run_counts_and_explains(results):
    assert run_summary("toy").splitlines() == [
        "study toy: 3 of 3 subjects included, 0 excluded",
        "report: results/toy/report.html",
    ]
    Path("results/toy/cohort.tsv").write_text("subject\tincluded\treason\n01\tyes\t\n02\tno\tit is bad\n")
    assert "1 of 2 subjects included, 1 excluded\nexcluded sub-02: it is bad" in run_summary("toy")


def test_the_summary_uses_the_newer_table(results):
    index = Path("results/toy/index.tsv")
    index.write_text("subject\tincluded\treason\n01\tyes\t\n")
    index.touch()
    assert "1 of 1 subjects" in run_summary("toy")


def test_the_summary_never_fails(cohort):
    assert run_summary("nothing") == "study nothing: no subject has been looked at yet"
    Path("results/toy").mkdir(parents=True)
    Path("results/toy/index.tsv").write_text("x\n")
    assert "lacks one of the columns" in run_summary("toy")


def test_show_prints_a_dataset(results, capsys):
    assert main(["show", dataset("toy", "01", "fit")]) == 0
    said = capsys.readouterr().out
    assert "x" in said and "place 3" in said


def test_show_of_a_missing_or_damaged_file_is_an_error(results, capsys):
    assert "does not exist" in error(capsys, "show", "nowhere.zarr.zip")
    Path("bad.zarr.zip").write_bytes(b"x")
    assert "bad.zarr.zip is damaged" in error(capsys, "show", "bad.zarr.zip")


@pytest.mark.parametrize(("to", "suffix"), [("zarr", ".zarr"), ("netcdf", ".nc")])
def test_export_goes_beside_the_dataset(results, capsys, to, suffix):
    path = Path(dataset("toy", "01", "fit"))
    assert main(["export", str(path), "--to", to]) == 0
    out = path.parent / f"sub-01_desc-fit{suffix}"
    assert capsys.readouterr().out.strip() == str(out)
    opened = xr.open_zarr(out, consolidated=False) if to == "zarr" else xr.open_dataset(out, engine="scipy")
    np.testing.assert_array_equal(opened["x"].values, [0.0, 1.0, 2.0])
    assert "exist" in error(capsys, "export", str(path), "--to", to)


def test_export_goes_where_it_is_told(results, capsys):
    assert main(["export", dataset("toy", "01", "fit"), "--to", "netcdf", "--output", "mine.nc"]) == 0
    assert Path("mine.nc").is_file()


def test_a_folder_that_cannot_be_written_is_an_error(results, capsys):
    Path("file").touch()
    error(capsys, "export", dataset("toy", "01", "fit"), "--to", "netcdf", "--output", "file/x.nc")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["show"], ["export", "x", "--to", "matlab"]])
def test_wrong_arguments_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_help_documents_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("check", "show", "status", "export", "exit codes"))


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "brainloom.cli", *words], capture_output=True, text=True, check=False
    )


def test_as_a_process(results):
    assert run("--version").stdout.startswith("brainloom ")
    shown = run("show", "nowhere.zarr.zip")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "Traceback" not in shown.stderr


def test_a_reader_that_stops_early_is_no_error(results):
    with open("results/toy/index.tsv", "a") as file:
        file.writelines(f"{n}\tno\t{'long reason ' * 20}\n" for n in range(1000, 3000))
    command = f"{sys.executable} -m brainloom.cli status toy"
    piped = subprocess.run(
        ["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, check=False
    )
    assert piped.stderr == ""
    assert piped.stdout.startswith("study toy: 3 of 2003")


def test_help_needs_no_heavy_import():
    """A mistyped command must answer at once."""
    code = (
        "import sys, contextlib, io\n"
        "from brainloom.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "print(sorted({'jax', 'xarray', 'zarr', 'matplotlib', 'pandas', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_status_of_a_study_that_simulates_nothing(results, capsys):
    for subject in SUBJECTS:
        Path(dataset("toy", subject, "simulation")).unlink()
    assert main(["status", "toy"]) == 1
    assert not read_status("toy").complete
    for subject in SUBJECTS:  # scores say what they were made from
        path = dataset("toy", subject, "metrics")
        write_dataset(
            path, read_dataset(path).assign_attrs(input_hashes=json.dumps({"fit": "0", "signal": "0"}))
        )
    assert read_status("toy").complete
    capsys.readouterr()
    assert main(["status", "toy"]) == 0
    assert "simulate" not in capsys.readouterr().out
