"""Sionna, which is imported when a test first asks for it. That takes seconds, and each process of pytest reads all
files of tests, whichever it runs.
"""

from types import ModuleType

import pytest


def sionna(name: str) -> ModuleType:
    """The module sionna.phy.`name`. The test is skipped if Sionna is not installed."""
    return pytest.importorskip(f"sionna.phy.{name}")
