"""Calls of third parties' systems in a thread of this process, for tests of what the harness does with the answers.

A process of a system costs 40 ms, and a small run starts 40 of them. Here the same program serves the same messages,
and a system is built anew for each call, as there. What a process keeps apart is not kept apart here: the tests of that
(`test_apart`, `test_seal`, and those of the sweep that do not ask for `near_systems`) start processes.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading

from bench.measure.apart import Home, Sight, child
from bench.measure.apart.nursery_client import Call


class NearCall(Call):
    """A call that a thread of this process answers."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        super().__init__(ours, ours, -1, 0)
        self.printed = io.StringIO()
        self.thread = threading.Thread(target=child.serve, args=(theirs, []), daemon=True)
        self.thread.start()

    def ask(self, *request, **arguments):
        """See `Call.ask`. What the system prints is kept for `close`."""
        with contextlib.redirect_stdout(self.printed), contextlib.redirect_stderr(self.printed):
            return super().ask(*request, **arguments)

    def seal(self, deadline: float | None = None) -> bool:
        """A thread is not sealed."""
        return False

    def close(self) -> str:
        """Close the socket, at which the thread ends. Returns what the system printed."""
        if not self.open:
            return ""
        self.open = False
        self.connection.close()
        self.thread.join(5)
        return self.printed.getvalue()

    def _post_mortem(self) -> str:
        return "the system's process ended"


class NearHome(Home):
    """Gives threads in the place of processes."""

    def __init__(self):
        self.process = None

    def open(self, sight: Sight, seal: bool = False) -> Call:
        """Start the program of a system's process in a thread."""
        return NearCall()
