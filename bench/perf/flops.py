"""Floating-point operations of a run's systems. They are counted when the run ends, so that `plot` builds no network.

`bench run` calls `fill`, which writes tables/flops.json. `bench.report.overheads` reads it. Our own systems are counted
in this process, once for all runs (the count is stored in the user's cache folder). A third party's system is counted
in a confined process, as everywhere (`bench.measure.apart`), with a time limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report.overheads import flops_keys, flops_path, kept_flops
from bench.results.reader import Run
from bench.util.cache_folder import cache_folder
from bench.util.files import StorageError, shown, write_atomic
from systems import registry
from systems.errors import UserError
from systems.interface import Link

PATIENCE = 300  # time limit for a third party's system in seconds
MOST = 1e18  # operations that a process may report


def fill(run_dir: Path, say: Callable[[str], None] = lambda text: None) -> dict[tuple[str, str], dict[str, float]]:
    """Count the systems that are missing in a run's tables/flops.json, and write it. Returns {(figure, system):
    {"encode": n, "decode": n}}.

    Only systems with parameters are counted. One that cannot be built or counted is reported by `say`, and has no
    entry. Raises UserError if the folder is no run.
    """
    run = Run.open(run_dir)
    counted = kept_flops(run)
    keys = {pair: key for pair, key in flops_keys(run).items() if run.system_facts.get(pair[1], {}).get("parameters")}
    fresh: dict[str, dict[str, float]] = {}
    for (figure_id, system), key in keys.items():
        if (figure_id, system) not in counted and key not in fresh:
            found = _counted(run, figure_id, system, key, say)
            if found is not None:
                fresh[key] = found
    if fresh:
        counted |= {pair: fresh[key] for pair, key in keys.items() if key in fresh}
        table = {keys[pair]: count for pair, count in counted.items()}
        write_atomic(flops_path(run), (json.dumps(table, indent=1, sort_keys=True) + "\n").encode())
    return counted


def _counted(run: Run, figure_id: str, system: str, key: str, say: Callable[[str], None]) -> dict[str, float] | None:
    """One count: from the user's cache, or made now. None if it fails."""
    try:
        if not registry.is_ours(system):
            return _counted_apart(run, figure_id, system)
        kept = _cache_file(key)
        try:
            return json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = count(run, figure_id, system)
        try:
            write_atomic(kept, json.dumps(found).encode())
        except StorageError:
            pass  # it is only a cache: without it the result is the same
        return found
    except Exception as error:  # a system may raise any error; its FLOPs are then unknown
        say(f"{system}: its operations were not counted ({shown(error)})")
        return None


def _cache_file(key: str) -> Path:
    """The count of another version of the counting code has another name."""
    code = Path(__file__).with_name("operations.py").read_bytes()
    return cache_folder() / "flops" / f"{hashlib.sha256(key.encode() + code).hexdigest()[:32]}.json"


def _counted_apart(run: Run, figure_id: str, system: str) -> dict[str, float]:
    """The count by a confined process, which sees no run. The process counts its own system, so it may report any
    number. Raises UserError and RuntimeError.
    """
    from bench.measure.apart import Home, inspect_with

    target, (options, config) = registry.find(system).target, _options(run, system)
    given = {"name": system, "options": options, "config": config, "link": _link(run, figure_id, system)}
    work, secrets = "bench.perf.operations:build_and_count", [run.directory.resolve(), Path("results")]
    told = inspect_with(Home.shared(), target, options, work, given, PATIENCE, secrets)
    try:
        counts = {key: float(told[key]) for key in ("encode", "decode")}
    except (KeyError, TypeError, ValueError, OverflowError):
        counts = {}
    if not counts or not all(0 <= count < MOST for count in counts.values()):
        raise UserError("its process gave no numbers")
    return counts


def count(run: Run, figure_id: str, system: str) -> dict[str, float]:
    """{"encode", "decode"}: operations for one picture of the figure's first size. The system, one of ours, is built
    here.
    """
    from bench.perf.operations import build_and_count

    options, config = _options(run, system)
    kind: Any = registry.create if config is None else registry.find(system).load()
    return dict(build_and_count(kind, system, options, config, _link(run, figure_id, system)))


def _link(run: Run, figure_id: str, system: str) -> Link:
    """The link of a figure for pictures of its first size, at 20 dB."""
    from bench.measure.budget import budget_of

    figure = next(figure for figure in run.figures if figure["id"] == figure_id)
    samples = run.samples_of(figure)
    first = samples[samples["system"] == system].iloc[0]
    height, width = int(first["height"]), int(first["width"])
    rule = {key: figure.get(key) for key in ("cbr", "bits", "uses")}
    budget = budget_of(figure["channel"], height, width, **rule)
    return Link(figure["task"], height, width, budget, figure["channel"], 20.0, figure.get("requirement", ""))


def _options(run: Run, system: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The options that build a system for the count; and the configuration that weights of others brought with them
    and that the manifest keeps, or None. Raises UserError for checkpoints of several sizes.
    """
    from systems.learned import IMPORTED
    from systems.per_snr import SEVERAL

    facts = run.system_facts.get(system, {})
    if facts.get("size") == SEVERAL:
        raise UserError("its checkpoints are networks of several sizes")
    options = dict(facts.get("options", {}))
    # FLOPs do not depend on the weights, and the manifest has only the name of a file.
    if options.get("checkpoint", "shipped") != "shipped":
        options["checkpoint"] = "none"
    if facts.get("size") != IMPORTED:
        return options, None
    return options | {"size": IMPORTED}, facts["config"]
