"""Pooled fits: every subject again, around a prior from the others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brainloom.core.errors import DataError
from brainloom.core.provenance import file_sha256, provenance_attrs
from brainloom.core.runtime import device_kind
from brainloom.steps._common import guarded, parse, read_kind
from brainloom.steps._lists import written_out

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import xarray as xr

    from brainloom.cohort.pool import Member
    from brainloom.fit.problem import FitSetup

LISTS = ("connectome", "signal")


def make_member(
    setup: FitSetup, config: dict[str, Any], connectome: xr.Dataset, signal: xr.Dataset
) -> Member:
    """
    Take of a subject what pooling needs.

    Parameters
    ----------
    setup : FitSetup
    config : dict
        Sections ``model, fit, signal``.
    connectome, signal : xarray.Dataset

    Raises
    ------
    DataError
        The regions of connectome and recording differ, or a part of the recording has no FC.
    """
    import numpy as np

    from brainloom.cohort.pool import Member
    from brainloom.fit.subject import subject_problem

    def of(split: str) -> np.ndarray:
        return signal["fc"].sel(split=split).values.astype(np.float64)

    def number(name: str, split: str) -> float:
        return float(signal[name].sel(split=split))

    subject = str(signal.attrs["subject"])
    parts = {name: of(name) for name in ("train", "test", "validation")}
    parts["early"] = signal["fc_early"].values.astype(np.float64)
    for name, fc in parts.items():
        bad = int(np.sum(~np.isfinite(fc)))
        if bad:
            raise DataError(
                f"sub-{subject}: FC of the {name} part is not a number in {bad} places; "
                "leave the subject out, or use a longer recording"
            )
    return Member(
        subject=subject,
        problem=subject_problem(setup, config, connectome, signal),
        **parts,
        n_frames=(number("n_frames", "train"), number("n_frames", "test")),
        dof=(float(signal["effective_dof_early"]), number("effective_dof", "train")),
    )


@dataclass
class Usable:
    """What the subjects of a study bring to pooling."""

    members: list[Member] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    setup: FitSetup | None = None
    frequency: dict[str, np.ndarray] = field(default_factory=dict)


def collect(args: argparse.Namespace) -> Usable:
    """
    Read connectomes and recordings of all subjects; those that cannot be used keep the reason.

    Parameters
    ----------
    args : argparse.Namespace
        Lists of files, one a subject, in the same order.
    """
    from brainloom.fit.subject import subject_setup
    from brainloom.store import is_failed

    found = Usable()
    for files in zip(args.connectome, args.signal, strict=True):
        connectome, signal = (read_kind(f, kind) for f, kind in zip(files, LISTS, strict=True))
        subject = str(signal.attrs["subject"])
        found.order.append(subject)
        for kind, ds in zip(LISTS, (connectome, signal), strict=True):
            found.hashes[f"{subject}/{kind}"] = str(ds.attrs["content_hash"])
        reasons = [str(ds.attrs["reason"]) for ds in (connectome, signal) if is_failed(ds)]
        if reasons:
            found.failed[subject] = reasons[0]
            continue
        labels = [str(label) for label in signal["region"].values]
        found.labels = found.labels or labels
        try:
            if labels != found.labels:
                raise DataError(
                    f"sub-{subject} has other regions than the subjects before it; use one atlas for all"
                )
            own = subject_setup(args.params, connectome)
            found.members.append(make_member(own, args.params, connectome, signal))
        except DataError as err:
            found.failed[subject] = str(err)
            continue
        found.frequency[subject] = signal["frequency"].values
        # one program for all: a cohort with one asymmetric connectome takes the general solver
        found.setup = own if found.setup is None or found.setup.symmetric else found.setup
    return found


def pool_study(args: argparse.Namespace) -> None:
    """
    Make the pooled dataset of every subject, and that of the cohort.

    Parameters
    ----------
    args : argparse.Namespace
        From the command line.
    """
    from brainloom.cohort.batch import Settings
    from brainloom.cohort.pool import Pooled, pool_cohort
    from brainloom.cohort.pooled_dataset import cohort_dataset, subject_dataset
    from brainloom.cohort.pooled_features import with_features
    from brainloom.io.brain_maps import read_brain_maps
    from brainloom.store import failed_dataset, write_dataset

    params, settings = args.params, args.params["pool"]
    usable = collect(args)
    maps = None
    if args.maps is not None:
        usable.hashes["maps"] = file_sha256(args.maps)
        maps = read_brain_maps(args.maps, usable.labels) if usable.labels else None
    found: Pooled | None = None
    trouble = ""
    try:
        found = pool_cohort(
            usable.setup,
            usable.members,
            ranks=settings["rank"],
            strengths=settings["lambda"],
            folds=settings["folds"],
            seed=params["seed"],
            search=Settings(max_steps=params["fit"]["max_steps"]),
            learn_shrinkage=settings["learn_shrinkage"],
            directions=settings["directions"],
            maps=None if maps is None else maps.values,
            tell=lambda text: print(f"pool: {text}", file=sys.stderr, flush=True),
        )
    except DataError as err:
        trouble = str(err)
        print(f"pool: {trouble}", file=sys.stderr, flush=True)

    def write(output: Path, ds: xr.Dataset, kind: str, subject: str) -> None:
        about = {"status": "ok", "reason": ""} | {
            key: ds.attrs[key] for key in ("status", "reason") if key in ds.attrs
        }
        stamps = provenance_attrs(
            "pool",
            params,
            usable.hashes,
            seed=params["seed"],
            precision=params["precision"],
            device=device_kind(),
        )
        named = {"kind": kind, "subject": subject, "study": str(params["study"])}
        write_dataset(output, ds.assign_attrs(**named, **about, **stamps))

    places = {member.subject: place for place, member in enumerate(usable.members)}
    for subject, output in zip(usable.order, args.output, strict=True):
        reason = usable.failed.get(subject, trouble)
        if not reason and found is not None:
            place = places[subject]
            try:
                member, theta = usable.members[place], found.outcomes[place].theta
                ds = subject_dataset(found, member, place, usable.labels)
                ds = with_features(ds, found.setup, member.problem, theta, usable.frequency[subject])
            except DataError as err:
                reason = str(err)
        if reason:
            ds = failed_dataset("pooled", subject, reason)
        write(output, ds, "pooled", subject)
        print(f"pool sub-{subject}: {f'excluded: {reason}' if reason else 'ok'}", file=sys.stderr, flush=True)
    if found is None:
        write(args.cohort, failed_dataset("pool", "group", trouble), "pool", "group")
    else:
        write(
            args.cohort,
            cohort_dataset(found, usable.members, usable.labels, maps.names if maps else ()),
            "pool",
            "group",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the step.

    Parameters
    ----------
    argv : sequence of str, optional
        ``--connectome F.. --signal F.. --output F.. --cohort pool.zarr.zip [--maps maps.tsv]
        --params JSON``.

    Returns
    -------
    int
        0, also if subjects were excluded; 2 on an error of the study.
    """
    given = written_out(sys.argv[1:] if argv is None else argv)
    args = parse("pool", lists=[*LISTS, "output"], singles=["cohort"], optional=["maps"], argv=given)
    return guarded(lambda: pool_study(args))


if __name__ == "__main__":
    sys.exit(main())
