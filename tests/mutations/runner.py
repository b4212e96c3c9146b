"""Runs tests on a mutated tree, in its working directory: one case per line of stdin, one answer per line of stdout.

    python runner.py TEST_FILE...

Libraries are imported once. Each case is a fork, which imports the mutated modules anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

#: Options of pytest. Its plug-ins are found by entry points, which the bench hides from libraries once it is imported.
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"]


class Noted:
    """A plug-in of pytest that notes how each test ended. An error of collection is no test that failed."""

    def __init__(self):
        self.ended = {"passed": [], "failed": [], "skipped": []}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.ended[report.outcome].append(report.nodeid.rpartition("::")[2])


def warm_up(files: list[str]) -> None:
    """Import all that these test files import, and forget what of it lies in the tree."""
    import bench.sweep.worker  # noqa: F401

    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        pytest.main(["--collect-only", *OPTIONS, *files])
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(os.getcwd() + os.sep):
            del sys.modules[name]


def run(tests: list[str], output: int) -> dict[str, list[str]]:
    """Run the tests up to the first that fails, in a fork. output: descriptor for what pytest prints."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.dup2(output, 1)
        os.dup2(output, 2)
        noted = Noted()
        with tempfile.TemporaryDirectory() as folder:
            pytest.main(["-x", *OPTIONS, f"--basetemp={folder}/t", *tests], plugins=[noted])
        os.write(writer, json.dumps(noted.ended).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    os.wait()
    return json.loads(text)


def main() -> None:
    """Serve until stdin is closed."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.getcwd())
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    warm_up(sys.argv[1:])
    for line in sys.stdin:
        case = json.loads(line)
        file = Path(case["file"])
        text, times = file.read_text(encoding="utf-8"), file.stat()
        file.write_text(text.replace(case["old"], case["new"]), encoding="utf-8")
        ended = run(case["tests"], 2)
        file.write_text(text, encoding="utf-8")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # so that the byte code of before is valid again
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main()
