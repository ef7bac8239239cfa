"""Which images are the runs of a subject, and where their confounds are. Light to import, as `brainloom.io.layout`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.io.entities import RUN_ENTITIES, entities


def bold_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says about the files of BOLD, as arguments of `brainloom.io.layout.subject_files`.

    Examples
    --------
    >>> bold_options({"input": {"atlas_image": "a.nii.gz"}, "signal": {"confounds": None, "scrub": {"fd": 0.5}}})
    {'atlas_image': 'a.nii.gz', 'confounds': True}
    """
    signal = config["signal"]
    wanted = signal.get("confounds") is not None or signal.get("scrub") is not None
    return {"atlas_image": config["input"].get("atlas_image"), "confounds": wanted}


def own_atlas(atlas_image: str, label: str) -> Path:
    """Atlas image of one subject: ``{subject}`` in the path stands for its label."""
    return Path(atlas_image.replace("{subject}", label))


def _endings(atlas_image: str | None) -> tuple[str, ...]:
    if atlas_image is None:
        return (".ptseries.nii",)
    return (".dtseries.nii",) if atlas_image.endswith(".dlabel.nii") else (".nii.gz", ".nii")


def find_images(root: str | Path, label: str, atlas: str, task: str, atlas_image: str | None) -> list[Path]:
    """BOLD images of one subject that go with an atlas image, in no order.

    For a label NIfTI these are NIfTI images, for a ``.dlabel.nii`` dense series; without an atlas image parcel series
    that carry the atlas in their name, or no atlas at all. If image and atlas both name their space or resolution, images
    in another one are passed over.

    Parameters
    ----------
    root : folder of the cohort.
    label : of the subject.
    atlas, task : entities of the file names.
    atlas_image : path, or None.
    """
    of_atlas = entities(atlas_image) if atlas_image else {}
    space = {"space": of_atlas.get("space", of_atlas.get("tpl")), "res": of_atlas.get("res")}
    suffixes = ("bold",) if atlas_image else ("bold", "timeseries")
    base = Path(root) / f"sub-{label}"
    found = []
    for path in [*base.glob("func/*.nii*"), *base.glob("ses-*/func/*.nii*")]:
        ends = "." + path.name.split(".", 1)[1]
        named = entities(path)
        if ends not in _endings(atlas_image) or named["suffix"] not in suffixes or named.get("task") != task:
            continue
        if atlas_image is None and named.get("atlas", named.get("seg", atlas)) != atlas:
            continue
        if all(key not in named or not value or _same(named[key], value) for key, value in space.items()):
            found.append(path)
    return found


def _same(one: str, other: str) -> bool:
    # Templates say res-02, fMRIPrep says res-2.
    return one == other or (one.isdigit() and other.isdigit() and int(one) == int(other))


def expected_image(root: str | Path, label: str, *, task: str, atlas: str) -> Path:
    """Where the BOLD image of a subject is expected if it has none; `atlas` is the path of the atlas image."""
    return Path(root) / f"sub-{label}" / "func" / f"sub-{label}_task-{task}_bold{_endings(atlas)[0]}"


def _run_key(named: Mapping[str, str]) -> tuple[str, ...]:
    run = named.get("run", "1")  # fMRIPrep leaves the number out where there is one run
    key = {**named, "run": str(int(run)) if run.isdigit() else run}
    return tuple(key.get(name, "") for name in ("sub", "task", *RUN_ENTITIES))


def confounds_path(run: Path) -> Path:
    """Table of confounds of a run, in its folder; where it is expected if there is none."""
    named = entities(run)
    for path in sorted(run.parent.glob("*desc-confounds_*.tsv")):
        if _run_key(entities(path)) == _run_key(named):
            return path
    kept = [f"{name}-{named[name]}" for name in ("sub", "ses", "task", "acq", "dir", "run") if name in named]
    return run.parent / "_".join([*kept, "desc-confounds_timeseries.tsv"])
