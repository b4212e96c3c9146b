"""Scores of pictures and of segmentations. `table` lists all metrics."""
