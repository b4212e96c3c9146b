"""Tests of the facts that a run records of its code: finding them changes no file."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.util import environment


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_found_without_a_write_to_the_repository(tmp_path):
    """The module is copied into a repository of its own. A changed time stamp makes `git
    status` read the file again.
    """
    file = tmp_path / "bench" / "util" / "environment.py"
    file.parent.mkdir(parents=True)
    shutil.copy(environment.__file__, file)

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    index = Path(tmp_path / ".git" / "index")
    before = index.read_bytes()
    spec = importlib.util.spec_from_file_location("environment_of_a_copy", file)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    assert copy.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert index.read_bytes() == before
    file.write_text(file.read_text() + "\n# a remark\n")
    assert copy.git_state()["dirty"] is True and index.read_bytes() == before
