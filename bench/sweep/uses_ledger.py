"""The ledger of channel uses of a whole run: all workers hold a system to one number of uses.

The first worker that measures a system's number of uses stores it. All later workers, also those of other sessions,
accept only this number.

`bench.measure.audit.Ledger` compares the transmissions of one process only. Without the ledger of the run, the number
of uses could differ between workers. It would then tell a receiver something of its pictures, and nobody would count
it. `bench.sweep.worker` makes one `RunLedger` for each system of a third party.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure.audit import Declared, Ledger, Spent
from bench.util.files import StorageError, read_bytes
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
        name = self._name(link, snr_db)
        if name in self._known:
            return
        uses = [spent.symbol_uses, spent.side_bits, spent.side_uses]
        before = self._first(name, uses)
        if before != uses:
            raise AuditError(
                f"audit: system {system.name}: symbol uses, side information bits and their uses are {uses}, but "
                f"another worker sent {before} over the same link; pad to one number"
            )
        self._known.add(name)

    def keep(self, link: Link, uses: list[int], snr_db: float) -> None:
        """Store the uses of a row of this run: those of the symbols, the bits of side information, and their uses.

        Nothing says here whether the encoder sees the SNR. So they are stored for the link with its SNR and for the
        link alone: one that sees it never asks for the second.
        """
        for seen in (snr_db, None):
            self._first(self._name(link, seen), uses)

    def _name(self, link: Link, snr_db: float | None) -> str:
        """The name of the file of a link. It is a new one for each SNR that the encoder sees."""
        key = [self.identity, link.task, link.requirement, link.height, link.width, asdict(link.budget), link.channel,
               snr_db]  # fmt: skip
        text = json.dumps(key, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _first(self, name: str, uses: list[int]) -> Any:
        """The numbers that the first process stored. If this process is the first, it stores `uses`."""
        path = self.folder / name
        try:
            self.folder.mkdir(exist_ok=True)
            with _file_of(self.folder, json.dumps(uses)) as own:
                try:
                    os.link(own, path)  # all of it at once, and never over another's: a kill leaves no empty file
                except FileExistsError:
                    return self._read(path, own)
                except OSError:  # a file system without hard links
                    try:
                        with open(path, "x", encoding="ascii") as file:
                            file.write(json.dumps(uses))
                    except FileExistsError:
                        return self._read(path, own)
            return uses
        except (OSError, ValueError, RecursionError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise StorageError(
                f"cannot keep the uses of this run in {path} ({why}); delete this file, or choose another --out"
            ) from None

    def _read(self, path: Path, own: str) -> Any:
        """The numbers in the file. If it stays empty, its process was killed, and the file `own` replaces it."""
        for attempt in range(100):
            if text := read_bytes(path):
                uses = json.loads(text.decode("ascii"))
                if not isinstance(uses, list) or [type(number) for number in uses] != [int] * 3:
                    raise ValueError("it holds no uses")
                return uses
            if attempt < 99:
                time.sleep(0.01)  # its writer is just at it
        os.replace(own, path)
        return json.loads(read_bytes(path))


@contextlib.contextmanager
def _file_of(folder: Path, text: str) -> Iterator[str]:
    """In a `with` block: the path of a temporary file that holds the text."""
    handle, path = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
