"""Fixtures that several files of this folder share."""

from harness import forked_workers, installed, place  # noqa: F401
