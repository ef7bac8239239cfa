"""Datasets on disk: one writer and one verifying reader of single-file Zarr stores (``.zarr.zip``)."""

from brainloom.store.dataset import failed_dataset, is_failed
from brainloom.store.export import describe_dataset, export_dataset
from brainloom.store.reader import read_attrs, read_dataset
from brainloom.store.writer import write_dataset

__all__ = [
    "describe_dataset",
    "export_dataset",
    "failed_dataset",
    "is_failed",
    "read_attrs",
    "read_dataset",
    "write_dataset",
]
