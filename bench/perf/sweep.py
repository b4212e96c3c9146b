"""`python -m bench perf sweep`: does a run in a temporary folder, and shows in which stages its time was spent."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.util.environment import host_facts
from systems import stage_times
from systems.stage_times import Seconds

if TYPE_CHECKING:
    from bench.perf.plain import Plain

#: The stages in the order of the table, and what each contains.
STAGES = {
    "start-up": "imports, weights, worker processes",
    "plan": "names, figures and cells; hashes of pictures and sources; every system built once",
    "preflight": "every picture read, every system tried at its budget",
    "data": "pictures read and resized",
    "encode": "networks and channel codes at the transmitter",
    "source code": "JPEG's quality search, JPEG decoding",
    "channel": "noise and fading",
    "decode": "networks and channel decoding at the receiver",
    "apart": "a sample of the cells decoded once more in a process that did not encode",
    "metrics": "PSNR, MS-SSIM, confusion",
    "store": "cell files and pictures",
    "tables": "samples, summary with bootstrap intervals",
}
COLUMNS = ("system", "stage", "wall_s", "cpu_s")
NOBODY = "(run)"

Table = list[tuple[str, str, float, float]]


def report_sweep(options: dict[str, Any], argv: Sequence[str], say: Callable[[str], None]) -> None:
    """Run, print, and write `options["csv"]`. Raises UserError."""
    from bench.perf.plain import plain_loop
    from bench.results.csv_tables import table_text
    from bench.spec.request import resolve
    from bench.util.devices import default_workers, pick_device
    from bench.util.files import write_atomic
    from systems.errors import UserError

    other = None
    if options["plain_link"]:  # looked up first, so that an unknown name is reported before the run
        request = _request(options)
        try:
            other = resolve(replace(request, options={**request.options, "link": options["plain_link"]}))
        except UserError as error:
            raise UserError(str(error).replace("--link", "--plain-link")) from None
    imports = time.process_time()  # seconds so far: imports, and building the systems of the other link
    device = pick_device(options["device"])
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as folder:
        resolved, result, elapsed, spent = timed_run(options, device, Path(folder) / "run", argv)
        if result.exit_code:
            raise UserError("; ".join(result.failure_lines()) or "interrupted")
        workers_own = spent.get(("", "start-up"), (0.0, 0.0))
        spent["", "start-up"] = (workers_own[0] + imports, workers_own[1] + imports)
        table = as_table(spent)
        workers = 1 if options["engine"] == "serial" else options["workers"] or default_workers(device)
        say(machine_line(device, workers))
        say(f"{result.done} cells, {elapsed + imports:.1f} s from start to tables\n")
        for column, name in ((3, "CPU seconds"), (2, "wall seconds, summed over processes")):
            say(pivot(table, column, name) + "\n")
        say("\n".join(f"{stage}: {what}" for stage, what in STAGES.items()))
        if options["csv"]:
            rows = (dict(zip(COLUMNS, row, strict=True)) for row in table)
            write_atomic(Path(options["csv"]), table_text(COLUMNS, rows).encode())
        if options["plain"] or other:
            plain = plain_loop(other or resolved, device, lambda text: print(text, file=sys.stderr), result.salt)
            say("\n" + compare_rows(result.run_dir, plain, elapsed + imports, options["plain_link"] or ""))


def compare_rows(run_dir: Path, plain: Plain, elapsed: float, link: str = "") -> str:
    """The plain loop and the run beside each other: whether they found the same, and how long each took.

    elapsed: seconds of the run, from its start. link: the digital link of the loop, where it is another one.
    """
    from bench.perf.plain import KEY
    from bench.results.csv_tables import read_rows

    loop = f"plain loop with link {link}" if link else "plain loop"
    found = {tuple(row[column] for column in KEY): row for row in read_rows(run_dir / "samples.csv")}
    shared = [(found[key], row) for key, row in plain.rows.items() if key in found]
    gaps = [abs(float(a["psnr_db"]) - b["psnr_db"]) for a, b in shared if "psnr_db" in b]
    labels = [abs(float(a["miou"]) - b["miou"]) for a, b in shared if "miou" in b]
    status = sum(a["status"] != b["status"] for a, b in shared)
    total = sum(plain.seconds.values())
    lines = [
        f"{loop}: {len(plain.rows)} rows, {len(shared)} of them in the run's {len(found)}; outages differ in {status}; "
        f"largest difference {max(gaps, default=0.0):.1e} dB PSNR, {max(labels, default=0.0):.1e} mIoU of a picture",
        f"{loop} {total:.1f} s, sweep {elapsed:.1f} s from its start: {total / elapsed:.2f} times as fast",
        *(f"  {name}: {seconds:.1f} s in the plain loop" for name, seconds in plain.seconds.items()),
    ]
    return "\n".join(lines)


def timed_run(options: dict[str, Any], device: str, out: Path, argv: Sequence[str] = ()):
    """Run `options` into the folder `out`. Returns (resolved request, its result, seconds, seconds by system and
    stage).
    """
    from bench.spec.request import resolve
    from bench.sweep.execute import execute

    stage_times.take()
    start = time.perf_counter()
    with stage_times.stage("plan"):
        resolved = resolve(_request(options))
    how = {key: options[key] for key in ("engine", "workers", "batch") if key in options}
    result = execute(resolved, out, device=device, argv=argv, **how)
    return resolved, result, time.perf_counter() - start, dict(result.spent)


def _request(options: dict[str, Any]):
    from bench.spec.grammar import split_names
    from bench.spec.request import Request

    return Request(
        figures=split_names(options.get("figure"), "--figure"),
        systems=split_names(options.get("systems"), "--systems"),
        **{key: options.get(key) for key in ("snr", "dataset", "data_root", "limit")},
        options={key: options.get(key) for key in ("size", "checkpoint")},
    )


def as_table(spent: dict[tuple[str, str], Seconds]) -> Table:
    """Rows of COLUMNS, with systems in the order of the run. Seconds that belong to no system come first."""
    systems = list(dict.fromkeys(["", *(system for system, _ in spent)]))
    return [
        (system or NOBODY, stage, *spent[system, stage])
        for system in systems
        for stage in STAGES
        if (system, stage) in spent
    ]


def pivot(table: Table, column: int, name: str) -> str:
    """Systems by stages, with sums and shares, as text for the terminal."""
    stages = [stage for stage in STAGES if any(row[1] == stage for row in table)]
    systems = list(dict.fromkeys(row[0] for row in table))
    values = {(row[0], row[1]): row[column] for row in table}
    total = sum(values.values()) or 1.0
    width = max(len(system) for system in (*systems, name))

    def line(label: str, cells: Sequence[str]) -> str:
        return "  ".join(
            [f"{label:{width}}", *(cell.rjust(max(9, len(head))) for cell, head in zip(cells, heads, strict=True))]
        )

    heads = [*stages, "sum", "share"]
    lines = [line(name, heads)]
    for system in systems:
        own = [values.get((system, stage)) for stage in stages]
        whole = sum(value or 0.0 for value in own)
        cells = ["" if value is None else f"{value:.2f}" for value in own]
        lines.append(line(system, [*cells, f"{whole:.2f}", f"{whole / total:.1%}"]))
    sums = [sum(values.get((system, stage), 0.0) for system in systems) for stage in stages]
    lines.append(line("sum", [*(f"{value:.2f}" for value in sums), f"{total:.2f}", ""]))
    lines.append(line("share", [*(f"{value / total:.1%}" for value in sums), "", ""]))
    return "\n".join(lines)


def machine_line(device: str, workers: int) -> str:
    """The machine that was measured, in one line."""
    host = host_facts()
    gpu = f", {host['gpus'][0]['name']}" if host["gpus"] and device.startswith("cuda") else ""
    several = "s" if workers > 1 else ""
    return f"{host['cpu']}, {host['cores']} cores{gpu}; device {device}, {workers} worker{several} of one thread"
