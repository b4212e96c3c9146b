"""The systems that a worker's process has built: our own in this process, those of third parties in separate ones.

`bench.sweep.worker.work` and `checks` call it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.measure.apart import RemoteSystem, TooLate
from bench.measure.audit import Ledger
from bench.spec.identity import SystemFacts, Unchanged, apart, build
from bench.sweep.uses_ledger import RunLedger
from bench.sweep.worker.printed import Printed
from systems import stage_times
from systems.errors import UserError
from systems.interface import System


class Systems:
    """The systems of a run by name. Each is built when it is first needed.

    root: the run's folder.
    facts: the systems as the plan describes them.
    secrets: files and folders that no process of a system may open: the pictures and the runs.
    cell_timeout: seconds that a cell may take, for systems in separate processes.
    printed: keeps the output of these processes.
    """

    def __init__(
        self,
        root: Path,
        facts: dict[str, SystemFacts],
        secrets: Sequence[Path],
        device: str,
        cell_timeout: float,
        printed: Printed,
    ):
        self.root, self.facts, self.secrets, self.device = root, facts, secrets, device
        self.cell_timeout, self.printed = cell_timeout, printed
        self._built: dict[str, System] = {}
        self._unchanged: dict[str, Unchanged] = {}  # of third parties' systems
        self._ledgers: dict[str, Ledger] = {}

    def __getitem__(self, name: str) -> System:
        """The system, built. Raises UserError if its code or its weights are no longer those of the plan."""
        if name not in self._built:
            facts = self.facts[name]
            with stage_times.stage("start-up"):
                if facts.plugin:
                    self._unchanged[name] = Unchanged(facts, facts.target.partition(":")[0], self.secrets)
                    self._built[name] = self.apart(name)
                else:
                    system = build(name, facts.options).to(self.device)
                    if system.describe().get("sha256") != facts.description.get("sha256"):
                        raise UserError(f"the weights of {name} changed since this command began; repeat the command")
                    Unchanged(facts, type(system).__module__)
                    self._built[name] = system
        return self._built[name]

    def apart(self, name: str) -> RemoteSystem:
        """The system in separate processes, which can open neither the pictures nor a run."""
        return apart(self.facts[name], self.secrets, self.device, partial(self.printed.add, name))

    def check_unchanged(self, name: str) -> None:
        """Raise UserError if the code or the weights of a third party's system changed: each cell imports them anew."""
        if name in self._unchanged:
            self._unchanged[name].check()

    def ledger(self, name: str) -> Ledger:
        """The ledger that all measurements of a system share; a third party's is shared by the whole run."""
        if name not in self._ledgers:
            facts = self.facts[name]
            self._ledgers[name] = RunLedger(self.root, facts.identity) if facts.plugin else Ledger()
        return self._ledgers[name]

    def rest(self) -> None:
        """End the process of an encoder that still waits. A process of another system could see that it holds files."""
        for system in self._built.values():
            if isinstance(system, RemoteSystem):
                with contextlib.suppress(TooLate):
                    system.rest()

    def start_clock(self, system: System) -> None:
        """Set the deadline of a cell that begins."""
        if isinstance(system, RemoteSystem):
            system.deadline = time.monotonic() + self.cell_timeout
