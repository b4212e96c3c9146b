"""Fixtures that several files of this folder share."""

from harness import forked_workers, installed, near_systems, place  # noqa: F401
