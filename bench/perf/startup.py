"""CPU seconds until processes of the bench are ready: `python -m bench.perf.startup [REPEATS] [CHECKOUT ...]`.

Each start is measured in a process of its own, in turns over the checkouts (default: the working directory), so that
commits can be compared. The result is a table in Markdown: medians and the smallest and the largest of the repeats.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

_AHEAD = "from bench.measure.apart.ahead import import_ahead; import_ahead({})"
#: What is started, and the arguments of Python that start it. The modules are those of the paper's figures.
STARTS: dict[str, list[str]] = {
    "import of torch alone": ["-c", "import torch"],
    "`run`, up to the fork of its workers": ["-c", "import bench.sweep.worker; " + _AHEAD.format(
        "['systems.gensc.system', 'baselines.witt', 'baselines.adjscc', 'baselines.deepjscc', 'baselines.linear', "
        "'baselines.deeplab_jscc', 'baselines.fcn', 'baselines.digital.system', 'baselines.bounds']"
    )],
    "the nursery, with GenSC": ["-c", "import torch, systems.weight_files; from bench.measure.apart import child; "
                                + _AHEAD.format("['systems.gensc.system']")],
    "`list`": ["-m", "bench", "list"],
    "`--help`": ["-m", "bench", "--help"],
}  # fmt: skip


def cpu_seconds(arguments: Sequence[str], checkout: str) -> float:
    """User and system time of one Python process, and of all that it waited for. Raises CalledProcessError."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=checkout, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(repeats: int, checkouts: Sequence[str]) -> None:
    """Measure and print."""
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for name, arguments in STARTS.items():
            for checkout in checkouts:
                found.setdefault((name, checkout), []).append(cpu_seconds(arguments, checkout))
    print("| start |" + "".join(f" {checkout} |" for checkout in checkouts))
    print("|---|" + "---|" * len(checkouts))
    for name in STARTS:
        cells = (found[name, checkout] for checkout in checkouts)
        print(f"| {name} |" + "".join(f" {statistics.median(c):.2f} ({min(c):.2f} to {max(c):.2f}) |" for c in cells))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:] or [os.getcwd()])
