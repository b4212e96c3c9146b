"""Data sets: named test sets, any folder of pictures, and their preprocessing. Nothing heavy is imported here."""

from bench.data.catalogue import DatasetInfo, default_data_root, list_datasets, open_dataset
from bench.data.dataset import Dataset, Sample

__all__ = ["Dataset", "DatasetInfo", "Sample", "default_data_root", "list_datasets", "open_dataset"]
