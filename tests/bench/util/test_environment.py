"""Tests of the facts that a run records of its code: finding them changes no file."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.util import environment


@pytest.fixture
def copied(tmp_path):
    """The module, copied into a repository of its own with one commit; its file; and git in this repository."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    file = tmp_path / "bench" / "util" / "environment.py"
    file.parent.mkdir(parents=True)
    shutil.copy(environment.__file__, file)

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    spec = importlib.util.spec_from_file_location("environment_of_a_copy", file)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy, file, git


def test_the_commit_is_found_without_a_write_to_the_repository(copied, tmp_path):
    """A changed time stamp makes `git status` read the file again."""
    copy, file, git = copied
    os.utime(file, (1_000_000_000, 1_000_000_000))
    index = Path(tmp_path / ".git" / "index")
    before = index.read_bytes()
    assert copy.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert index.read_bytes() == before
    file.write_text(file.read_text() + "\n# a remark\n")
    assert copy.git_state()["dirty"] is True and index.read_bytes() == before


def test_a_hook_of_another_repository_does_not_lend_its_commit(copied, tmp_path_factory, monkeypatch):
    """git sets these variables for a hook, for a rebase's --exec, and for an alias that calls a program."""
    copy, _, git = copied
    other = tmp_path_factory.mktemp("other")
    for words in (["init", "--quiet"], ["-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "--quiet",
                                        "--allow-empty", "--message", "other"]):  # fmt: skip
        subprocess.run(["git", "-C", str(other), *words], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert copy.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
