"""The number of uses is one for all workers of a run, so that it tells a receiver nothing of its pictures."""

from __future__ import annotations

import pytest
import torch

from bench.measure.audit import Ledger, audit
from bench.measure.calls import Facts
from bench.sweep.ledger import FOLDER, RunLedger
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
    with pytest.raises(AuditError, match=r"\[89, 0, 0\], and were \[90, 0, 0\] where another worker"):
        third.check(SYSTEM, LINK, spent(89), None)
    Ledger().check(SYSTEM, LINK, spent(89), None)  # a worker alone sees no difference
    # Another link, SNR, or version of the system has a number of its own.
    RunLedger(tmp_path, {"name": "anyone", "source": "a"}).check(SYSTEM, LINK.at(height=21), spent(89), None)
    RunLedger(tmp_path, {"name": "anyone", "source": "a"}).check(SYSTEM, LINK, spent(89), 4.0)
    RunLedger(tmp_path, {"name": "anyone", "source": "b"}).check(SYSTEM, LINK, spent(89), None)


def test_a_file_that_is_no_number_of_uses_is_one_line(tmp_path):
    RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(90), None)
    (kept,) = (tmp_path / FOLDER).iterdir()
    kept.write_text("")
    with pytest.raises(StorageError, match=r"\.uses.*empty"):
        RunLedger(tmp_path, {}).check(SYSTEM, LINK, spent(90), None)
