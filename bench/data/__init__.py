"""Data sets: named test sets, any folder of pictures, and their preprocessing. No large package is imported here.

`open_dataset` opens a set for a sweep, `open_source` one for training. Both read files by `bench.data.decode`.
"""

from bench.data.catalogue import DatasetInfo, default_data_root, list_datasets, open_dataset, open_source
from bench.data.dataset import Dataset, Item, Preprocessing, Sample, keep_apart
from bench.data.decode import read_mask, read_picture

__all__ = [
    "Dataset",
    "DatasetInfo",
    "Item",
    "Preprocessing",
    "Sample",
    "default_data_root",
    "keep_apart",
    "list_datasets",
    "open_dataset",
    "open_source",
    "read_mask",
    "read_picture",
]
