"""Measures what a very large run costs after its cells are computed: it packs, scans and reads an invented run, and
makes its tables.

`python -m bench perf scale` calls it. The rows are invented. The files, the scan, the tables and the reader are those
of a real run. CPU seconds are given beside wall seconds, because wall seconds say little on a busy machine. Memory is
the largest resident set.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure.channel import PERFECT_CSI, SNR_DEF
from bench.results.cell_archives import PACK_CELLS
from bench.results.csv_tables import line_of
from bench.results.schema import CELL_COLUMNS, SCHEMA
from bench.results.store import RunStore
from bench.sweep.make_tables import write_tables
from bench.sweep.plan import BLOCK, Cell, Plan, WorkUnit, missing

SYSTEMS = tuple(f"made-up-{index}" for index in range(10))
SNRS = tuple(float(snr) for snr in range(0, 22, 2))
_SET, _CBR, _USES = "made-up", 0.0625, 9408


def made_up_plan(rows: int) -> Plan:
    """The plan of a run with about `rows` rows: ten systems at eleven SNRs, on as many pictures as needed."""
    count = -(-rows // (len(SYSTEMS) * len(SNRS)))
    images = [f"picture-{index:06d}" for index in range(count)]
    units = []
    for system in SYSTEMS:
        for start in range(0, count, BLOCK):
            cells = tuple(Cell(_id(system, start, snr), snr, 0) for snr in SNRS)
            block = tuple(images[start : start + BLOCK])
            units.append(
                WorkUnit(
                    system,
                    "reconstruction",
                    _SET,
                    block,
                    "awgn",
                    _CBR,
                    None,
                    "",
                    cells,
                    set_name=_SET,
                    variant="small-1",
                )
            )
    return Plan((), tuple(units), {}, dict.fromkeys(SYSTEMS))  # type: ignore[arg-type]


def write_cells(plan: Plan, store: RunStore) -> None:
    """Write every cell of an invented plan, in archives as a run leaves them."""
    pack: dict[str, bytes] = {}
    for cell_id, data in _cells(plan):
        pack[cell_id] = data
        if len(pack) == PACK_CELLS:
            store.archives.add(pack)
            pack = {}
    if pack:
        store.archives.add(pack)
    store.archives.note_checked()


def _id(system: str, start: int, snr: float) -> str:
    return hashlib.sha256(f"{system} {start} {snr}".encode()).hexdigest()[:16]


def _cells(plan: Plan) -> Iterator[tuple[str, bytes]]:
    generator = np.random.default_rng(0)
    head = line_of(list(CELL_COLUMNS))
    fixed = {
        "schema": SCHEMA, "variant": "small-1", "task": "reconstruction", "dataset": _SET, "height": 224, "width": 224,
        "rep": 0, "channel": "awgn", "csi": PERFECT_CSI.name, "snr_def": SNR_DEF, "cbr_target": _CBR,
        "budget_uses": _USES, "n_source": 150528, "n_uses": _USES, "cbr": _CBR, "bits_per_use": 4.0,
        "bits": 4.0 * _USES, "side_bits": 8, "side_uses": 16, "status": "ok", "batch": 5, "device": "cpu",
    }  # fmt: skip
    for unit, cell in plan.cells:
        level = 22 + 0.4 * cell.snr_db + SYSTEMS.index(unit.system) / 7
        psnr = generator.normal(level, 3.0, len(unit.image_ids)).tolist()
        lines = [head]
        for image_id, value in zip(unit.image_ids, psnr, strict=True):
            own: dict[str, Any] = {
                "cell_id": cell.id, "system": unit.system, "image_id": image_id, "snr_db": cell.snr_db,
                "noise_id": hash((image_id, cell.snr_db)) % 2**63, "tx_power": 1.0000000118230115, "psnr_db": value,
                "mse": 65025 * 10 ** (-value / 10), "ms_ssim": 1 - 10 ** (-value / 20), "encode_s": 0.08976428899986785,
                "channel_s": 0.0004206712001177948, "decode_s": 0.09589548639996792,
            }  # fmt: skip
            fields = {**fixed, **own}
            lines.append(line_of([str(fields.get(column, "")) for column in CELL_COLUMNS]))
        yield cell.id, ("\n".join(lines) + "\n").encode()


def report_scale(rows: int, folder: Path | None, say: Callable[[str], None]) -> None:
    """Make the run in `folder` (default: a temporary one, which is removed) and report the cost of each step."""
    with tempfile.TemporaryDirectory() as temporary:
        _report(rows, folder or Path(temporary) / "run", say)


def _report(rows: int, folder: Path, say: Callable[[str], None]) -> None:
    plan = _timed(say, f"plan of {rows:,} rows", lambda: made_up_plan(rows))
    config = {"figures": [{
        "id": "fig4", "title": "Made up", "task": "reconstruction", "dataset": _SET, "systems": list(SYSTEMS),
        "channel": "awgn", "snr_db": list(SNRS), "cbr": _CBR, "bits": None, "metric": "psnr_db",
    }]}  # fmt: skip
    maker = RunStore(folder)
    maker.open("made-up")
    _timed(say, f"{len(plan.cells):,} cells written and packed", lambda: write_cells(plan, maker))
    maker.write_manifest({"schema": SCHEMA, "run": "made-up", "config": config, "config_sha256": "made-up"})
    store = RunStore(folder)  # a new object, as in the next command
    left = _timed(say, "scan of a resumed run", lambda: missing(plan, store))
    if left:
        raise RuntimeError(f"{len(left)} tasks are missing in a run that was just written")
    _timed(say, "tables", lambda: write_tables(plan, store, {}, {}, set(), config, False))
    maker.close()
    from bench.results.reader import Run

    run = Run.open(folder)
    table = _timed(say, "samples.csv read for figures", lambda: run.samples)
    say(f"{len(table):,} rows, {table.memory_usage(deep=False).sum() / 2**20:.0f} MiB of columns")


def _timed(say: Callable[[str], None], what: str, work: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    say(f"{what}: {cpu:.1f} s of processor, {wall:.1f} s, peak {peak:.0f} MiB")
    return result
