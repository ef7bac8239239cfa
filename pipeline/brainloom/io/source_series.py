"""Source activity that is already one series a region: tables, numpy arrays, parcellated CIFTI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.meeg_sidecars import dataset_root, frequency_of
from brainloom.io.reading import match_labels, read_sidecar, read_timeseries
from brainloom.io.recording import Recording
from brainloom.io.tables import who


def read_source_series(
    path: str | Path, regions: Sequence[str] | None = None, *, root: str | Path | None = None
) -> Recording:
    """Read source activity of regions, as an inverse solution and a parcellation left it.

    Parameters
    ----------
    path : one of

        - ``*_timeseries.tsv``: region labels as header, one line a sample;
        - ``*.npy``: a (time, region) array of numbers;
        - ``*.ptseries.nii``: parcellated CIFTI, whose header has the labels and the sampling interval.

        Tables and arrays need a JSON sidecar (the same name with ``.json``, or one above it by the BIDS inheritance
        principle) with ``SamplingFrequency`` in Hz; ``Units``, and for arrays ``Regions`` (a list of labels), are read
        from it where given.
    regions : labels of the atlas; the columns are put into their order.
    root : folder of the dataset up to which sidecars are looked for; found by itself if not given.

    Returns
    -------
    Recording
        `sensors` are the regions, `kinds` all ``source``, `info` None.

    Raises
    ------
    DataError
        If the file cannot be read, its labels are not those of the atlas, the sampling frequency is missing, or a
        value is no number.
    """
    path = Path(path)
    root = dataset_root(path) if root is None else Path(root)
    if not path.is_file():
        raise DataError(f"{path}: {who(path)}file not found; add the file or leave the subject out")
    if path.name.endswith(".ptseries.nii"):
        data, labels, rate, unit = _cifti(path)
        data, labels = _ordered(data, labels, regions, path)
    elif path.suffix == ".tsv":
        data, labels = read_timeseries(path, regions)
        rate, unit, _ = _sidecar(root, path)
    elif path.suffix == ".npy":
        rate, unit, named = _sidecar(root, path)
        data, labels = _array(path, named or regions)
        data, labels = _ordered(data, labels, regions, path)
    else:
        raise DataError(
            f"{path}: {who(path)}is no table of source activity; it must be a .tsv, .npy or .ptseries.nii file"
        )
    if not np.isfinite(data).all():
        at = labels[int(np.argmin(np.isfinite(data).all(axis=0)))]
        raise DataError(
            f"{path}: {who(path)}region {at} has values that are not numbers; leave out such samples or runs"
        )
    return Recording(
        data=np.ascontiguousarray(data, dtype=np.float64),
        sampling_frequency=rate,
        sensors=labels,
        kinds=["source"] * len(labels),
        info=None,
        reference="none",
        bads=[],
        path=path,
        unit=unit,
    )


def _sidecar(root: Path, path: Path) -> tuple[float, str, list[str] | None]:
    content, origin = read_sidecar(root, path)
    rate = frequency_of(content, origin, "SamplingFrequency")
    if rate is None:
        raise DataError(
            f"{path.with_suffix('.json')}: {who(path)}SamplingFrequency is missing; add it in Hz, in this file or in one "
            "above it with the same suffix"
        )
    named = content.get("Regions")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise DataError(
            f"{origin['Regions']}: Regions is no list of labels; it must name every column of the array"
        )
    return rate, str(content.get("Units", "1")), named


def _array(path: Path, labels: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    try:
        data = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: {who(path)}is no array of numbers ({str(error).splitlines()[0]}); save it again with numpy.save"
        ) from None
    if data.ndim != 2 or data.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {who(path)}holds a {data.ndim}-dimensional array of {data.dtype}; it must be (time, region) and real"
        )
    if labels is None:
        raise DataError(
            f"{path}: {who(path)}an array does not name its regions; add Regions, a list of labels, to its JSON sidecar"
        )
    if data.shape[1] != len(labels):
        turned = " (it is turned round: save its transpose)" if data.shape[0] == len(labels) else ""
        raise DataError(
            f"{path}: {who(path)}array is {data.shape[0]} x {data.shape[1]} for {len(labels)} regions; it must be "
            f"(time, region){turned}"
        )
    return data, list(labels)


def _cifti(path: Path) -> tuple[np.ndarray, list[str], float, str]:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        time, parcels = (image.header.get_axis(at) for at in range(2))
        data = np.asarray(image.get_fdata(dtype=np.float64))
    except Exception as error:  # nibabel raises whatever a damaged header leads to
        raise DataError(
            f"{path}: {who(path)}cannot be read as CIFTI ({(str(error) or type(error).__name__).splitlines()[0]}); "
            "write it again as parcels by series"
        ) from error
    if not isinstance(time, nibabel.cifti2.SeriesAxis) or not isinstance(parcels, nibabel.cifti2.ParcelsAxis):
        raise DataError(
            f"{path}: {who(path)}axes are {type(time).__name__} and {type(parcels).__name__}; a ptseries has series by parcels"
        )
    if time.unit != "SECOND" or not time.step > 0:
        raise DataError(
            f"{path}: {who(path)}series advances by {time.step:g} {time.unit}; it must be a positive number of seconds"
        )
    return data, [str(name) for name in parcels.name], 1.0 / float(time.step), "1"


def _ordered(
    data: np.ndarray, labels: list[str], regions: Sequence[str] | None, path: Path
) -> tuple[np.ndarray, list[str]]:
    if regions is None:
        return data, labels
    return data[:, match_labels(labels, regions, path)], list(regions)
