"""Small images of known content: NIfTI and CIFTI BOLD, their atlases, and confound tables as fMRIPrep writes them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

TR = 0.8
# Values of the six regions in the label image: not in order, with gaps.
VALUES = [3, 1, 7, 2, 9, 4]
NAMES = ["V1_L", "V1_R", "M1_L", "M1_R", "A1_L", "A1_R"]
TABLE = dict(zip(VALUES, NAMES, strict=True))
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -12], [0, 0, 2, -8], [0, 0, 0, 1]])
SHAPE = (10, 10, 10)


def label_array() -> np.ndarray:
    """Six regions of 5 x 4 x 3 voxels, apart from the borders of the image."""
    labels = np.zeros(SHAPE, dtype=np.int16)
    for at, value in enumerate(VALUES):
        i, j = divmod(at, 3)
        labels[4 * i + 1 : 4 * i + 5, 3 * j + 1 : 3 * j + 4, 2:7] = value
    return labels


def save_nifti(
    path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, tr: float = TR, unit: str = "sec"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        image.header.set_xyzt_units("mm", unit)
    nib.save(image, path)
    return path


def voxels_of(series: np.ndarray, seed: int = 0) -> np.ndarray:
    """BOLD (x, y, z, time) whose regional means are `series` (time, region): voxels of a region differ around it."""
    rng = np.random.default_rng(seed)
    labels = label_array()
    data = rng.normal(500, 20, (*SHAPE, len(series)))
    for at, value in enumerate(VALUES):
        inside = labels == value
        apart = rng.normal(0, 5, (inside.sum(), len(series)))
        data[inside] = series[:, at] + apart - apart.mean(axis=0)
    return data


def brain_models(vertices: np.ndarray, n_vertices: int = 100) -> nib.cifti2.BrainModelAxis:
    """Some vertices of the left cortex, and the 60 voxels of the left thalamus."""
    mask = np.zeros(n_vertices, dtype=bool)
    mask[vertices] = True
    box = np.zeros((6, 6, 6), dtype=bool)
    box[1:5, 1:4, :5] = True
    cortex = nib.cifti2.BrainModelAxis.from_mask(mask, "CortexLeft")
    return cortex + nib.cifti2.BrainModelAxis.from_mask(box, "thalamus_left", affine=AFFINE)


def save_cifti(path: Path, data: np.ndarray, *axes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Cifti2Image(data.astype(np.float32), nib.cifti2.Cifti2Header.from_axes(axes)), path)
    return path


def label_axis(table: dict[int, str]) -> nib.cifti2.LabelAxis:
    rows = {0: ("???", (0, 0, 0, 0))} | {value: (name, (1, 0, 0, 1)) for value, name in table.items()}
    return nib.cifti2.LabelAxis(["atlas"], [rows])


def parcels_axis(names: list[str]) -> nib.cifti2.ParcelsAxis:
    parts = np.array_split(np.arange(100), len(names))
    return nib.cifti2.ParcelsAxis.from_brain_models(
        [
            (name, nib.cifti2.BrainModelAxis.from_surface(part, 100, "CortexLeft"))
            for name, part in zip(names, parts, strict=True)
        ]
    )


def series_axis(frames: int, tr: float = TR) -> nib.cifti2.SeriesAxis:
    return nib.cifti2.SeriesAxis(0, tr, frames)


MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def confound_columns(frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    """All columns of an fMRIPrep table that matter here, made of random walks; the first derivative is n/a."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for name in [*MOTION, "csf", "white_matter", "global_signal"]:
        value = np.cumsum(rng.normal(0, 0.02, frames))
        slope = np.concatenate([[np.nan], np.diff(value)])
        columns |= {name: value, f"{name}_derivative1": slope}
        columns |= {f"{name}_power2": value**2, f"{name}_derivative1_power2": slope**2}
    for at in range(8):
        columns[f"a_comp_cor_{at:02d}"] = rng.normal(size=frames)
    for at in range(3):
        columns[f"cosine{at:02d}"] = np.cos(np.pi * (at + 1) * (np.arange(frames) + 0.5) / frames)
    columns["framewise_displacement"] = np.concatenate([[np.nan], np.full(frames - 1, 0.1)])
    columns["std_dvars"] = np.concatenate([[np.nan], np.full(frames - 1, 1.0)])
    return columns


def save_confounds(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write the table, and its sidecar: the even components are of the combined mask, the odd ones of CSF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        ["n/a" if np.isnan(value) else f"{value:.12g}" for value in row]
        for row in zip(*columns.values(), strict=True)
    ]
    path.write_text("".join("\t".join(row) + "\n" for row in [list(columns), *rows]))
    about = {
        name: {
            "Method": "aCompCor",
            "Mask": "CSF" if int(name[-2:]) % 2 else "combined",
            "Retained": True,
            "VarianceExplained": 0.1,
        }
        for name in columns
        if name.startswith("a_comp_cor")
    }
    path.with_suffix(".json").write_text(json.dumps(about))
    return path
