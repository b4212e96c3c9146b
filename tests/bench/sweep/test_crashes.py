"""The crash campaign on whole commands: killed at every call of the system, a run that grows loses and mixes nothing.

`tests/bench/results/test_cells.py` holds the same for the store and its archives alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from functools import cache
from pathlib import Path

import pytest
from harness import killed_at, make_pictures, without_costs

from bench.spec import identity
from bench.spec.request import Request, resolve
from bench.sweep import execute as module
from bench.sweep import make_manifest
from bench.sweep.execute import execute

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SALT = "0123456789abcdef"
#: The calls of `os` that change files.
CALLS = ("open", "replace", "unlink", "fsync", "chmod", "mkdir", "write", "close")
#: SNRs of one command after another in the same folder.
FIRST, GROWN = "4", "4,8"


def one_command(snr: str, out: Path) -> int:
    """One command in this process; returns its exit code."""
    # The nursery has nothing to do with files, and starting one for each kill would take hours.
    module._home, module.with_samples = lambda: None, lambda todo, plan: todo
    resolved = resolve(Request(systems=("linear",), snr=snr, dataset="folder:pictures", cbr="1/6"))
    return execute(resolved, out, engine="serial", salt=SALT).exit_code


def in_a_child(snr: str, stop: int = 0, log: Path | None = None) -> int:
    """One command in a forked process, killed at its call number `stop` from the folder's lock on (0: never)."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code, count, write = 1, [0], os.write
    try:
        begin = module.RunStore.open

        def opened(self, *arguments, **options):
            nonlocal count
            count = killed_at(stop, CALLS)
            begin(self, *arguments, **options)

        module.RunStore.open = opened
        code = one_command(snr, Path("run"))
    except BaseException as error:
        write(2, f"{type(error).__name__}: {error}\n".encode())
        code = 1
    finally:
        if log is not None:
            log.write_text(str(count[0]))
        os._exit(code)


def tables() -> list:
    """What readers of the run see, less what each session measures anew."""
    told = json.loads(Path("run/manifest.json").read_text())
    return [
        without_costs(Path("run/samples.csv")),
        Path("run/summary.csv").read_text(),
        Path("run/failures.csv").read_text(),
        told["salt"],
        told["config"],
        told["cells"],
    ]


def _remember(monkeypatch) -> None:
    """Read the code and the weights once, not in each child: they do not change here, and take most of its time."""
    source, imported, kept = identity.source_digest, identity.imported, identity._kept_facts
    path = cache(lambda name: kept(name, {}))  # the only system here has no options
    monkeypatch.setattr(identity, "source_digest", cache(source))
    monkeypatch.setattr(identity, "imported", cache(imported))
    monkeypatch.setattr(make_manifest, "git_state", cache(make_manifest.git_state))
    monkeypatch.setattr(identity, "_kept_facts", lambda name, options: path(name))


def campaign(tmp_path, monkeypatch, before: str | None, stops) -> None:
    """Kill the command for GROWN at each of `stops(calls)`, after a whole command for `before` (None: none)."""
    make_pictures(tmp_path / "pictures", 3)
    monkeypatch.chdir(tmp_path)
    for name in ("_home", "with_samples"):
        monkeypatch.setattr(module, name, getattr(module, name))  # `one_command` replaces them
    _remember(monkeypatch)
    # Once in this process: each child then finds torch, SciPy and the system loaded, whose import takes far longer
    # than the command.
    assert one_command(FIRST, Path("warm")) == 0
    if before is not None:
        assert in_a_child(before) == 0
        shutil.copytree("run", "start")
        small = tables()
    log = tmp_path / "log"
    assert in_a_child(GROWN, log=log) == 0
    whole, calls = tables(), int(log.read_text())
    assert calls > 40
    for stop in stops(calls):
        shutil.rmtree("run")
        if before is not None:
            shutil.copytree("start", "run")
        assert in_a_child(GROWN, stop) == -signal.SIGKILL, stop
        if before is not None and stop % 3 == 0:  # the small command again, in between: its rows are all there
            assert in_a_child(before) == 0, stop
            rows = tables()[0]
            assert [row for row in rows if row["snr_db"] == "4.0"] == small[0], stop
        assert in_a_child(GROWN) == 0, stop
        assert tables() == whole, stop
        assert not list(Path("run").rglob("*.tmp")), stop


def test_a_few_kills_of_a_run_that_grows(tmp_path, monkeypatch):
    campaign(tmp_path, monkeypatch, FIRST, lambda calls: (calls // 4, calls // 2))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("before", [None, FIRST], ids=["new", "growing"])
def test_a_kill_at_any_call_of_a_command_loses_and_mixes_nothing(tmp_path, monkeypatch, before):
    sys.setswitchinterval(1.0)  # one thread: nothing to switch to
    campaign(tmp_path, monkeypatch, before, lambda calls: range(1, calls + 1))
