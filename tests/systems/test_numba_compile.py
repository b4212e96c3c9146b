"""Tests that compiled code works where no cache can be written: an installed package, and no home folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_no_folder_for_the_cache_is_no_error(tmp_path):
    module = tmp_path / "package" / "made.py"
    module.parent.mkdir()
    module.write_text(
        "from systems.numba_compile import compiled\n\n\n@compiled\ndef double(x):\n    return 2 * x\n\n\n"
        "assert double(4) == 8\n"
    )
    cache = tmp_path / "file"
    cache.write_text("no folder")  # neither `__pycache__` beside the source nor the user's cache can be written
    (module.parent / "__pycache__").write_text("no folder")
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{module.parent}",
        "HOME": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    env |= {"XDG_CACHE_HOME": str(cache)}
    env.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", "import made"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
