"""The output of systems in separate processes, kept in `output/<system>.log` of the run.

`bench.sweep.worker.work` writes it when a work unit has ended. Before, a decoder could ask for the length of the file,
and so receive a message of its encoder.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.util.files import slug

OUTPUT_BYTES = 1 << 20  # a log keeps at most so much


class Printed:
    """The output of systems since the last `write`, in the order of their calls. root: the run's folder."""

    def __init__(self, root: Path):
        self.root = root
        self._texts: dict[str, list[str]] = {}

    def add(self, name: str, text: str) -> None:
        """Remember a text that the system `name` printed. Text beyond `OUTPUT_BYTES` is dropped."""
        texts = self._texts.setdefault(name, [])
        if sum(map(len, texts)) < OUTPUT_BYTES:
            texts.append(text)

    def write(self) -> None:
        """Append the texts to the logs, up to `OUTPUT_BYTES` each, and forget them."""
        printed, self._texts = self._texts, {}
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        for name, texts in printed.items():
            path = self.root / "output" / f"{slug(name)}.log"
            try:
                path.parent.mkdir(exist_ok=True)
                # A link is not followed: its target is a file of another program.
                with os.fdopen(os.open(path, flags, 0o600), "ab") as file:
                    if file.tell() < OUTPUT_BYTES:
                        file.write("".join(texts).encode("utf-8", "backslashreplace"))
            except OSError:
                pass  # the run has no folder yet, or the disk is full; no row depends on this file
