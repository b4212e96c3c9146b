"""Fixtures that several files of this folder share."""

from harness import installed, place  # noqa: F401
