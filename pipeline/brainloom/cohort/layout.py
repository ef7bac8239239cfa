"""Where the files of a study lie; the one place in which these paths are made."""

from __future__ import annotations

from collections.abc import Iterable

# The datasets of one subject, in the order in which the workflow makes them.
KINDS = ("connectome", "signal", "fit", "posterior", "simulation", "metrics")

# The report has a page of every subject up to so many, as more make the file too large to open comfortably; else of so
# many with the lowest, the middle and the highest scores.
MAX_PAGES, EXTREMES = 40, 4


def report_pages(subjects: int) -> int:
    """Number of subjects that the report has a page of."""
    return subjects if subjects <= MAX_PAGES else 3 * EXTREMES


def dataset_kinds(*, simulated: bool) -> tuple[str, ...]:
    """`KINDS`, without ``simulation`` where nothing is simulated."""
    return tuple(kind for kind in KINDS if simulated or kind != "simulation")


def study_file(study: str, name: str) -> str:
    """
    A file of the whole study.

    Parameters
    ----------
    study : str
        Name of the study.
    name : str
        Such as ``"index.tsv"``.

    Examples
    --------
    >>> study_file("demo", "index.tsv")
    'results/demo/index.tsv'
    """
    return f"results/{study}/{name}"


def dataset(study: str, subject: str, kind: str) -> str:
    """
    The dataset of one kind of one subject.

    Parameters
    ----------
    study : str
        Name of the study.
    subject : str
        Label without ``sub-``.
    kind : str
        One of `KINDS`.

    Examples
    --------
    >>> dataset("demo", "01", "fit")
    'results/demo/sub-01/sub-01_desc-fit.zarr.zip'
    """
    return study_file(study, f"sub-{subject}/sub-{subject}_desc-{kind}.zarr.zip")


def datasets(study: str, subjects: Iterable[str], kind: str) -> list[str]:
    """The datasets of one kind of several subjects, in their order: see `dataset`."""
    return [dataset(study, subject, kind) for subject in subjects]


def export_folder(study: str, subject: str) -> str:
    """
    Folder of the simulated signals of one subject for other programs.

    Parameters
    ----------
    study, subject : str
        Name, and label without ``sub-``.

    Examples
    --------
    >>> export_folder("demo", "01")
    'results/demo/sub-01/export'
    """
    return study_file(study, f"sub-{subject}/export")


def log_file(study: str, step: str, batch: str = "") -> str:
    """
    What a job prints.

    Parameters
    ----------
    study, step : str
        Names.
    batch : str
        Name of the batch, of a per-subject step.

    Examples
    --------
    >>> log_file("demo", "fit", "b001"), log_file("demo", "group")
    ('logs/demo/fit/b001.log', 'logs/demo/group.log')
    """
    return f"logs/{study}/{step}{_part(batch)}.log"


def benchmark_file(study: str, step: str, batch: str = "") -> str:
    """
    Time and memory of a job.

    Parameters
    ----------
    study, step : str
        Names.
    batch : str
        Name of the batch, of a per-subject step.

    Examples
    --------
    >>> benchmark_file("demo", "fit", "b001")
    'results/demo/benchmarks/fit/b001.tsv'
    """
    return study_file(study, f"benchmarks/{step}{_part(batch)}.tsv")


def _part(batch: str) -> str:
    return f"/{batch}" if batch else ""
