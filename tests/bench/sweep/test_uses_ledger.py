"""All workers of a run hold a system to one number of uses, so this number tells a receiver nothing of a picture."""

from __future__ import annotations

import os

import pytest
import torch
from harness import killed_at

from bench.measure.audit import Ledger, audit
from bench.measure.calls import Facts
from bench.sweep.uses_ledger import FOLDER, RunLedger
from bench.util.files import StorageError
from systems.errors import AuditError
from systems.interface import Budget, Link, Transmission

LINK = Link("reconstruction", 20, 30, Budget(uses=100))
SYSTEM = Facts("anyone", "", None, False, False, False, False)


def spent(uses):
    return audit(SYSTEM, Transmission(torch.ones(1, uses, dtype=torch.complex64)), LINK)


def test_two_workers_hold_a_system_to_one_number_of_uses(tmp_path):
    first, second = (RunLedger(tmp_path, {"name": "anyone", "source": "a"}) for _ in range(2))
    first.check(SYSTEM, LINK, spent(90), None)
    second.check(SYSTEM, LINK, spent(90), None)
    third = RunLedger(tmp_path, {"name": "anyone", "source": "a"})
    with pytest.raises(AuditError, match=r"\[89, 0, 0\], but another worker sent \[90, 0, 0\] over"):
        third.check(SYSTEM, LINK, spent(89), None)
    Ledger().check(SYSTEM, LINK, spent(89), None)  # alone, without other workers' numbers, it finds no difference
    # Another link, SNR, or version of the system has a number of its own.
    RunLedger(tmp_path, {"name": "anyone", "source": "a"}).check(SYSTEM, LINK.at(height=21), spent(89), None)
    RunLedger(tmp_path, {"name": "anyone", "source": "a"}).check(SYSTEM, LINK, spent(89), 4.0)
    RunLedger(tmp_path, {"name": "anyone", "source": "b"}).check(SYSTEM, LINK, spent(89), None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("content", ["[]", "90", "[90, 0]", "[1e400, 0, 0]", "[" * 100_000, "\xff", "pipe", "folder"])
def test_a_file_that_is_no_number_of_uses_is_one_line(tmp_path, content):
    RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(90), None)
    (kept,) = (tmp_path / FOLDER).iterdir()
    kept.unlink()
    if content == "pipe":
        os.mkfifo(kept)
    elif content == "folder":
        kept.mkdir()
    else:
        kept.write_text(content)
    with pytest.raises(StorageError, match=r"\.uses.*delete this file") as caught:
        RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(90), None)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [kept.name]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_an_empty_file_of_a_killed_process_does_not_block_the_run(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(90), None)
    (kept,) = (tmp_path / FOLDER).iterdir()
    kept.write_text("")
    RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(80), None)
    with pytest.raises(AuditError, match="another worker sent .80, 0, 0. over"):
        RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(90), None)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [kept.name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_call_leaves_a_ledger_that_goes_on(tmp_path):
    for stop in range(1, 12):
        (tmp_path / str(stop)).mkdir()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                killed_at(stop, ("mkdir", "open", "write", "close", "fdopen", "link", "unlink"))
                RunLedger(tmp_path / str(stop), {}).check(SYSTEM, LINK, spent(90), None)
                code = 0
            finally:
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        files = [path for path in (tmp_path / str(stop)).rglob("*") if path.is_file() and path.suffix != ".tmp"]
        assert all(path.read_text() == "[90, 0, 0]" for path in files), stop
        RunLedger(tmp_path / str(stop), {}).check(SYSTEM, LINK, spent(90), None)
        if ended == 0:
            break
    assert ended == 0 and stop > 3
