"""The ledger of a whole run: every worker of every session holds a system to the uses that the first of them saw.

`bench.measure.audit.Ledger` compares what one process sends. If each worker had only this, the number of uses could
still differ between workers, and so tell a receiver something of its pictures that nobody counts. `bench.sweep.worker`
makes one `RunLedger` for each system of a third party.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure.audit import Declared, Ledger, Spent
from bench.util.files import StorageError
from systems.errors import AuditError
from systems.interface import Link

FOLDER = ".uses"


class RunLedger(Ledger):
    """A ledger that all processes of a run share: one small file for each link in the folder `.uses` of the run.

    identity: what decides the rows of the system. A new version of a system has new files.
    """

    def __init__(self, root: Path, identity: dict[str, Any]):
        super().__init__()
        self.folder, self.identity = root / FOLDER, identity
        self._known: set[str] = set()

    def check(self, system: Declared, link: Link, spent: Spent, snr_db: float | None) -> None:
        """As `Ledger.check`, for the whole run. Raises AuditError, and StorageError if the file cannot be written."""
        super().check(system, link, spent, snr_db)
        key = [self.identity, link.task, link.requirement, link.height, link.width, asdict(link.budget), link.channel,
               snr_db]  # fmt: skip
        text = json.dumps(key, sort_keys=True, default=str)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        if name in self._known:
            return
        uses = [spent.symbol_uses, spent.side_bits, spent.side_uses]
        before = self._first(name, uses)
        if before != uses:
            raise AuditError(
                f"audit: system {system.name}: symbol uses, bits and uses of side information are {uses}, and were "
                f"{before} where another worker sent pictures over this link; pad to one number"
            )
        self._known.add(name)

    def _first(self, name: str, uses: list[int]) -> Any:
        """What the first process wrote; `uses` if it is this one."""
        path = self.folder / name
        try:
            self.folder.mkdir(exist_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                return self._read(path)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(json.dumps(uses))
            return uses
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot keep the uses of this run in {path} ({error}); choose another --out") from None

    def _read(self, path: Path) -> Any:
        for _ in range(100):
            if text := path.read_text(encoding="ascii"):
                return json.loads(text)
            time.sleep(0.01)  # its writer is just at it
        raise ValueError("the file is empty; delete it")
