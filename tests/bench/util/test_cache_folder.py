"""Tests of the folders of a user: a relative path in their variables does not count, as their standard says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.util.cache_folder import cache_folder


@pytest.mark.parametrize("given", ["", "cache", "./cache", "../cache", "~/cache"])
def test_a_relative_cache_folder_does_not_count(given, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder() == tmp_path / ".cache" / "semantic-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "semantic-bench"


def test_no_library_of_a_command_makes_a_relative_folder(tmp_path):
    """matplotlib makes its folders where these variables point. The command itself is one that ends at once."""
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    script = (
        "from bench.cli import main\n"
        "try:\n    main(['completion', 'bash'])\nexcept SystemExit:\n    pass\n"
        "import matplotlib\nmatplotlib.get_cachedir(), matplotlib.get_configdir()\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "MPLCONFIGDIR"} | {
        "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", script], cwd=here, env=env, capture_output=True, check=True, timeout=200)
    assert not list(here.iterdir()) and (home / ".cache" / "matplotlib").is_dir()
