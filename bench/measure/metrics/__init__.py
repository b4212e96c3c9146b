"""Scores of pictures and of segmentations."""
