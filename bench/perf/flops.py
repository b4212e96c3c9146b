"""Floating-point operations of a run's systems. They are counted when the run ends, so that `plot` builds no network.

`bench run` calls `fill`, which writes tables/flops.json. `bench.report.overheads` reads it. Our own systems are counted
in this process, once for all runs (the count is stored in the user's cache folder). A third party's system is counted
in a separate process, with a time limit.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.report.overheads import flops_keys, flops_path, kept_flops
from bench.results.reader import Run
from bench.util.cache_folder import cache_folder
from bench.util.files import StorageError, shown, write_atomic
from systems import registry
from systems.errors import UserError

PATIENCE = 300  # time limit for a third party's system in seconds


def measure_costs(system, link, device: str = "cpu") -> dict[str, int]:
    """Floating-point operations {"encode", "decode"} for one picture of the link's size. A multiply-add counts as two.

    torch counts matrix products, convolutions and attention. Elementwise operations, and work outside torch (JPEG, LDPC
    decoding), are not counted.
    """
    import torch

    from bench.measure.channel import transmit
    from systems import result_cache

    result_cache.forget()  # remembered results would not be counted
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, link.height, link.width), generator=generator).to(device)
    with torch.inference_mode():
        transmission, encode = count_flops(lambda: system.encode(image, link))
        received = transmit(transmission, link, [0])
        _, decode = count_flops(lambda: system.decode(received, link))
    return {"encode": encode, "decode": decode}


def count_flops(call: Callable[[], Any]) -> tuple[Any, int]:
    """What `call` returns, and the operations of its matrix products, convolutions and attention, forward and backward.

    torch's own count of a convolution's backward pass ignores the groups, so it takes a depthwise convolution for a
    dense one: hundreds of times too many.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    mapping = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        result = call()
    return result, counter.get_total_flops()


def _convolution_backward_flops(
    gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], *others: Any, **_: Any
) -> int:
    """Operations of a convolution's backward pass, from the shapes of its tensors. The gradient of the input and that
    of the weight cost as much as the forward pass each: 2 operations per weight, picture and position.

    Positions are those of the output, or of the input for a transposed convolution.
    """
    transposed, output_mask = others[4], others[7]
    positions = math.prod((x if transposed else gradient)[2:])
    return 2 * gradient[0] * math.prod(weight) * positions * sum(output_mask[:2])


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
    return cache_folder() / "flops" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _counted_apart(run: Run, figure_id: str, system: str) -> dict[str, float]:
    """The count by another process. Raises UserError if that fails, RuntimeError if it takes too long."""
    command = [sys.executable, "-m", "bench.perf.flops", str(run.directory), figure_id, system]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {PATIENCE} s") from None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    try:
        count = json.loads(lines[-1])
        return {key: float(count[key]) for key in ("encode", "decode")}
    except (IndexError, ValueError, KeyError, TypeError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UserError(last[0] if last else f"its process ended with code {done.returncode}") from None


def count(run: Run, figure_id: str, system: str) -> dict[str, float]:
    """{"encode", "decode"}: operations for one picture of the figure's first size. The system is built."""
    from bench.measure.budget import budget_of
    from bench.spec.identity import build
    from systems import registry
    from systems.interface import Link
    from systems.learned import IMPORTED
    from systems.sizes import fill as fill_config

    figure = next(figure for figure in run.figures if figure["id"] == figure_id)
    samples = run.samples_of(figure)
    first = samples[samples["system"] == system].iloc[0]
    height, width = int(first["height"]), int(first["width"])
    rule = {key: figure.get(key) for key in ("cbr", "bits", "uses")}
    budget = budget_of(figure["channel"], height, width, **rule)
    link = Link(figure["task"], height, width, budget, figure["channel"], 20.0, figure.get("requirement", ""))
    facts = run.system_facts.get(system, {})
    options = dict(facts.get("options", {}))
    # FLOPs do not depend on the weights, and the manifest has only the name of a file.
    if options.get("checkpoint", "shipped") != "shipped":
        options["checkpoint"] = "none"
    if (
        facts.get("size") == IMPORTED
    ):  # weights of others brought a configuration of their own, which the manifest keeps
        kind: Any = registry.find(system).load()
        options |= {"size": IMPORTED, "config": fill_config(kind.Config, facts["config"], f"manifest of {system}")}
    return measure_costs(build(system, options), link)


if __name__ == "__main__":
    print(json.dumps(count(Run.open(sys.argv[1]), *sys.argv[2:4])))
