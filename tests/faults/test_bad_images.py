"""Bad BOLD images, atlases and confounds: one exact sentence before any compute, and the rest of the cohort goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from spoiled_cohort import (
    ATLAS,
    ROOT,
    RUN1,
    RUN2,
    SUBJECTS,
    Case,
    assert_only_02_is_refused,
    change,
    index,
    lines,
    make_cohort,
    parametrize,
    preprocess,
    write,
)

TR, FRAMES = 0.72, 300
IMAGE = ROOT / "sub-02/func/sub-02_task-rest_run-1_bold.nii.gz"
CONFOUNDS = ROOT / "sub-02/func/sub-02_task-rest_run-1_desc-confounds_timeseries.tsv"
IMAGES = {"input": {"atlas_image": "six.nii"}}
CLEANED = IMAGES | {"signal": {"confounds": {"motion": 6}, "scrub": {"fd": 0.5}}}
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def save(path: Path, data: np.ndarray, tr: float = TR, shift: float = 0.0) -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[0, 3] = shift
    image = nib.Nifti1Image(data, affine)
    if data.ndim == 4:
        image.header.set_zooms((3, 3, 3, tr))
        image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def atlas(values: list[int]) -> np.ndarray:
    """One slice of 4 x 3 voxels a region."""
    return np.tile(np.array(values, np.int16)[:, None, None], (1, 4, 3))


def bold(seed: int = 0, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).normal(9000, 50, (6, 4, 3, frames)).astype(np.float32)


def confounds(
    path: Path, frames: int = FRAMES, moving: slice = slice(0, 0), columns: list[str] = MOTION
) -> None:
    values = np.random.default_rng(frames).normal(0, 0.1, (frames, len(columns) + 1))
    values[:, -1] = 0.1
    values[moving, -1] = 1.0
    rows = [[*columns, "framewise_displacement"], *(map("{:.6f}".format, row) for row in values)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


@pytest.fixture(autouse=True)
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The good cohort of the tables with one run of images in their place, and its confounds."""
    monkeypatch.chdir(tmp_path)
    make_cohort()
    save(Path("six.nii"), atlas([1, 2, 3, 4, 5, 6]))
    for subject in SUBJECTS:
        for table in (RUN1, RUN2):
            own = Path(str(table).replace("02", subject))
            own.unlink()
            own.with_suffix(".json").unlink()
        save(Path(str(IMAGE).replace("02", subject)), bold(int(subject)))
        confounds(Path(str(CONFOUNDS).replace("02", subject)))


CASES: list[Case] = [
    (
        "no image",
        IMAGE.unlink,
        f"{IMAGE.with_name('sub-02_task-rest_bold.nii.gz')}: sub-02 lacks this file; "
        "add what is missing or leave the subject out",
    ),
    (
        "three axes",
        lambda: save(IMAGE, bold()[..., 0]),
        f"{IMAGE}: sub-02 image is 6 x 4 x 3; BOLD must have four axes, the last one time",
    ),
    (
        "no image inside",
        write(IMAGE, "404 Not Found"),
        f"{IMAGE}: sub-02 file cannot be read as an image; it may be cut short, so copy it again",
    ),
    (
        "elsewhere",
        lambda: save(IMAGE, bold(), shift=9.0),
        f"{IMAGE}: sub-02 image has no signal in 3 of 6 regions of six.nii: V1_L, V1_R, M1_L; give an atlas in the space "
        "of the image, leave the regions out of the atlas table, or leave the subject out",
    ),
    (
        "repetition time missing",
        lambda: save(IMAGE, bold(), tr=0.0),
        f"{IMAGE}: sub-02 repetition time is missing: the header has 0 (unit sec) and no JSON sidecar has RepetitionTime; "
        "add it to the sidecar in seconds, or set signal.tr in the configuration",
    ),
    (
        "repetition time contradictory",
        write(IMAGE.with_name("sub-02_task-rest_bold.json"), '{"RepetitionTime": 2}'),
        f"{IMAGE}: sub-02 repetition time is 2 s in the JSON sidecar but 0.72 s in the header; correct the one that is wrong",
    ),
    (
        "too short",
        lambda: save(IMAGE, bold(frames=250)),
        f"{IMAGE}: sub-02 has 250 frames, which leaves 122 for each half; at least 139 are needed "
        "(one period of 0.01 Hz, the lower end of signal.band), so add a longer run or leave the subject out",
    ),
    (
        "no confounds",
        CONFOUNDS.unlink,
        f"{CONFOUNDS}: sub-02 lacks this file; add what is missing or leave the subject out",
    ),
    (
        "confounds of another run",
        lines(CONFOUNDS, slice(0, 300)),
        f"{CONFOUNDS}: sub-02 table has 299 lines below its header but the recording has 300 frames; give the table of this run",
    ),
    (
        "a confound missing",
        change(CONFOUNDS, 0, 2, "trans"),
        f"{CONFOUNDS}: sub-02 table has no column 'trans_z', which signal.confounds.motion: 6 asks for; "
        "correct the configuration, or write the table again with these columns",
    ),
    (
        "a number missing",
        change(CONFOUNDS, 7, 1, "n/a"),
        f"{CONFOUNDS}: sub-02 line 8, column trans_y is no number; "
        "leave the column out of signal.confounds, or correct the table",
    ),
    (
        "displacement missing",
        change(CONFOUNDS, 0, 6, "fd"),
        f"{CONFOUNDS}: sub-02 table has no column 'framewise_displacement', which signal.scrub.fd: 0.5 asks for; "
        "correct the configuration, or write the table again with these columns",
    ),
    (
        "too much motion",
        lambda: confounds(CONFOUNDS, moving=slice(180, 260)),
        f"{CONFOUNDS}: sub-02 keeps 68 of 148 frames of the second half after scrubbing; at least 139 are needed "
        "(one period of 0.01 Hz, the lower end of signal.band), so raise the thresholds of signal.scrub or leave the subject "
        "out",
    ),
]


@parametrize(CASES)
def test_bad_image(spoil: Callable[[], None], sentence: str) -> None:
    spoil()
    assert_only_02_is_refused(sentence, **CLEANED)
    if "lacks this file" not in sentence:  # the step is never started then
        assert preprocess("signal", ["02"], **CLEANED) == {"02": ("failed", sentence)}


def test_good_images() -> None:
    for changes in (IMAGES, CLEANED):
        assert index(**changes) == (0, dict.fromkeys(SUBJECTS, ("yes", "")))
        assert preprocess("signal", **changes) == dict.fromkeys(SUBJECTS, ("ok", ""))


def test_what_headers_do_not_tell_excludes_the_subject_later() -> None:
    data = bold()
    data[2] = 0
    save(IMAGE, data)
    assert index(**IMAGES)[1]["02"] == ("yes", "")
    sentence = (
        f"{IMAGE}: sub-02 image has no signal in 1 of 6 regions of six.nii: M1_L; give an atlas in the space of the image, "
        "leave the regions out of the atlas table, or leave the subject out"
    )
    assert preprocess("signal", **IMAGES) == {"01": ("ok", ""), "02": ("failed", sentence), "03": ("ok", "")}


def test_too_little_is_left_by_scrubbing_or_by_confounds() -> None:
    signal = {"scrub": {"fd": 0.5}, "band": [0.02, 0.1]}
    confounds(CONFOUNDS, moving=slice(180, 260))
    assert_only_02_is_refused(
        f"{CONFOUNDS}: sub-02 keeps 68 of 148 frames of the second half after scrubbing; at least 70 are needed "
        "(one period of 0.02 Hz, the lower end of signal.band), so raise the thresholds of signal.scrub or leave the "
        "subject out",
        **IMAGES | {"signal": signal},
    )
    signal |= {"band": [0.03, 0.1]}
    assert_only_02_is_refused(
        f"{CONFOUNDS}: sub-02 keeps 68 of 148 frames of the second half after scrubbing; at least 50% are needed "
        "(signal.scrub.keep), so raise the thresholds of signal.scrub or leave the subject out",
        **IMAGES | {"signal": signal},
    )
    signal["scrub"]["keep"] = 0.4
    assert index(**IMAGES | {"signal": signal})[1]["02"] == ("yes", "")
    confounds(CONFOUNDS, columns=[*MOTION, "csf", "white_matter", "global_signal", "a"])
    signal = {"confounds": {"columns": [*MOTION, "csf", "white_matter", "global_signal", "a"]}}
    confounds(Path(str(CONFOUNDS).replace("02", "01")), columns=signal["confounds"]["columns"])
    code, rows = index(**IMAGES | {"signal": signal})
    assert code == 2 and rows["02"] == (
        "no",
        f"{CONFOUNDS}: sub-02 has 10 confounds but 147 frames of the first half hold about 19 degrees of freedom in "
        "signal.band; at least 10 must be left, so take fewer confounds in signal.confounds or a longer run",
    )


def test_the_atlas_image_must_fit_the_table() -> None:
    def all_are_refused(sentence: str) -> None:
        code, rows = index(**IMAGES)
        assert code == 2 and rows == dict.fromkeys(SUBJECTS, ("no", sentence))

    save(Path("six.nii"), atlas([1, 2, 3, 4, 7, 6]))
    all_are_refused(
        "six.nii: atlas image has no voxels of 1 of 6 regions of the atlas table: A1_L (5); "
        "column index of the table must be the value in the image"
    )
    change(ATLAS, 5, 0, "seven")()
    all_are_refused(
        f"{ATLAS}: index of A1_L is 'seven'; it must be the value of the region in the atlas image, a whole number above 0"
    )
    change(ATLAS, 5, 0, "7")()
    assert index(**IMAGES)[0] == 0
    Path("six.nii").unlink()
    all_are_refused("six.nii: atlas image not found; correct input.atlas_image in the configuration")


def test_two_images_of_one_run() -> None:
    save(IMAGE.with_name("sub-02_task-rest_run-1_desc-smooth_bold.nii.gz"), bold())
    assert_only_02_is_refused(
        f"{IMAGE.with_name('sub-02_task-rest_run-1_desc-smooth_bold.nii.gz')}: sub-02 has two files for the same run, the "
        f"other is {IMAGE.name}; keep one of them in this folder",
        **IMAGES,
    )
