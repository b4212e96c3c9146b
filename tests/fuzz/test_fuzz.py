"""Runs the fuzz script with all its cases: no traceback, no hang, no files left."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_thousand_hostile_cases_end_well():
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run([sys.executable, str(script), "--cases", "3000"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "3000 cases: 0 tracebacks, 0 hangs, 0 leftovers" in done.stdout
