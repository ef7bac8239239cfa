"""The command ``brainloom``: check a configuration, look at results, export them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from brainloom.core.errors import BrainloomError

EXIT_CODES = """\
exit codes:
  0  all is well
  1  check: the configuration or an input file has a problem
     status: a subject is excluded or something is not done yet
  2  the command could not do its work: wrong arguments, no such file or study, a damaged dataset

The models are computed by Snakemake: snakemake --cores all [--configfile config/studies/<study>.yaml]
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``brainloom``; those of the process if not given.

    Returns
    -------
    int
        Exit code: see `EXIT_CODES`.
    """
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
        return code
    except BrainloomError as err:
        print(f"error: {err}", file=sys.stderr)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; without this Python complains while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as err:
        where = f"{err.filename}: " if err.filename else ""
        print(f"error: {where}{err.strerror or err}; check the path and its permissions", file=sys.stderr)
    return 2


def check(args: argparse.Namespace) -> int:
    """Validate a configuration and every input file of its study; print one line a problem."""
    from brainloom.cohort.check import check_study
    from brainloom.core.config import load_config, validate_config

    try:
        config = validate_config(load_config(args.config), args.config)
    except BrainloomError as err:
        print(err)
        return 1
    problems, notes = check_study(config)
    for line in notes:
        print(line)
    for line in problems:
        print(line)
    return 1 if problems else 0


def show(args: argparse.Namespace) -> int:
    """Print what is in a dataset."""
    from brainloom.store import describe_dataset

    print(describe_dataset(args.dataset))
    return 0


def status(args: argparse.Namespace) -> int:
    """Print how far a study is and whom it leaves out."""
    from brainloom.cohort.status import describe_status, read_status

    found = read_status(_study_name(args.study))
    print(describe_status(found))
    return 0 if found.complete else 1


def plan(args: argparse.Namespace) -> int:
    """Predict time, memory and disk of a study from a short timed probe, without starting it."""
    from brainloom.cohort.layout import study_file
    from brainloom.cohort.plan import plan_study
    from brainloom.cohort.planning import describe_prediction, predict
    from brainloom.cohort.saved_plan import read_probe, save_plan
    from brainloom.core.config import load_config, validate_config
    from brainloom.core.errors import ConfigError

    cores, subjects = os.cpu_count() or 1 if args.cores is None else args.cores, args.subjects
    for name, value in (("--cores", cores), ("--subjects", subjects)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    if args.save and subjects is not None:
        raise ConfigError("--save keeps the plan of the study as it is; leave out --subjects")
    config = validate_config(load_config(args.config), args.config)
    study = plan_study(config)
    kept = Path(study_file(config["study"], "plan.json"))
    if args.no_probe:
        probe = read_probe(kept)
    else:
        from brainloom.cohort.probe import run_probe

        probe = run_probe(config, study)
    found = predict(config, study, probe, cores=cores, subjects=subjects)
    for path in (kept if args.save else None, args.json):
        if path is not None:
            save_plan(found.as_dict(), probe, path)
    print(describe_prediction(found))
    return 0


def page(args: argparse.Namespace) -> int:
    """Write the report of single subjects of a finished study beside their datasets; print where."""
    from brainloom.report.single import write_subject_report

    study = _study_name(args.study)
    for subject in args.subject:
        print(write_subject_report(study, subject.removeprefix("sub-")))
    return 0


def export(args: argparse.Namespace) -> int:
    """Copy a dataset to a format that other tools open."""
    from brainloom.store import export_dataset

    output = args.output or _beside(args.dataset, args.to)
    export_dataset(args.dataset, output, to=args.to)
    print(output)
    return 0


def _study_name(text: str) -> str:
    """The study of a name, of a results folder or of a configuration file."""
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        from brainloom.core.config import load_config, validate_config

        return validate_config(load_config(path), path)["study"]
    return path.name if path.parts[:1] == ("results",) else text


def _beside(dataset: Path, to: str) -> Path:
    """Where an export goes if nothing is said: beside the dataset, under its name."""
    name = dataset.name.removesuffix(".zarr.zip")
    return dataset.with_name(f"{name}.zarr" if to == "zarr" else f"{name}.nc")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brainloom",
        description="Personalised whole-brain models for cohorts: check inputs, look at results, export them.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"brainloom {metadata.version('brainloom')}")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser(
        "check",
        help="validate a configuration and every input file, without computing",
        description=check.__doc__,
    )
    command.add_argument("config", type=Path, help="such as config/studies/demo.yaml")
    command.set_defaults(run=check)

    command = commands.add_parser(
        "plan", help="predict time, memory and disk of a study from a short probe", description=plan.__doc__
    )
    command.add_argument("config", type=Path, help="such as config/studies/demo.yaml")
    command.add_argument("--cores", type=int, help="jobs at once (default: the cores of this machine)")
    command.add_argument("--subjects", type=int, help="pretend that the cohort has so many")
    command.add_argument(
        "--no-probe", action="store_true", help="measure nothing: use what the last --save has measured"
    )
    command.add_argument(
        "--save", action="store_true", help="keep it for the report: results/<study>/plan.json"
    )
    command.add_argument("--json", type=Path, help="write it, and what was measured, to this file")
    command.set_defaults(run=plan)

    command = commands.add_parser("show", help="print what is in a dataset", description=show.__doc__)
    command.add_argument("dataset", type=Path, help="such as results/demo/sub-01/sub-01_desc-fit.zarr.zip")
    command.set_defaults(run=show)

    command = commands.add_parser(
        "status", help="print how far a study is and whom it leaves out", description=status.__doc__
    )
    command.add_argument("study", help="its name, its folder in results, or its configuration file")
    command.set_defaults(run=status)

    command = commands.add_parser(
        "page", help="write the report of single subjects of a large cohort", description=page.__doc__
    )
    command.add_argument("study", help="its name, its folder in results, or its configuration file")
    command.add_argument("subject", nargs="+", help="labels")
    command.set_defaults(run=page)

    command = commands.add_parser(
        "export", help="copy a dataset to a Zarr folder or a netCDF file", description=export.__doc__
    )
    command.add_argument("dataset", type=Path, help="such as results/demo/group.zarr.zip")
    command.add_argument("--to", choices=("zarr", "netcdf"), required=True, help="the format")
    command.add_argument("--output", type=Path, help="what to make (default: beside the dataset)")
    command.set_defaults(run=export)
    return parser


if __name__ == "__main__":
    sys.exit(main())
