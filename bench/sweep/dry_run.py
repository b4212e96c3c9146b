"""Describes a run without doing it: its cells, how many are cached, its budgets. `bench run --dry-run` calls it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.measure.budget import budget_text
from bench.measure.tasks import other_request
from bench.results.store import RunStore
from bench.spec.figure import Figure
from bench.spec.grammar import snr_text
from bench.spec.identity import SystemFacts
from bench.spec.request import BLOCK, Resolved
from bench.sweep.execute import manifest_of
from bench.sweep.grow import merged_config
from bench.sweep.plan import Cell, WorkUnit, make_plan, missing
from bench.sweep.salt import salt_of
from bench.util.files import several, shown
from systems.errors import BudgetTooSmall

SIZES_LOOKED_AT = 250  # a dry run reads the headers of this many pictures, spread over the set


def dry_run_text(resolved: Resolved, out: Path | None, salt: str | None = None) -> str:
    """The cells, how many of them are cached, and what each system may spend. Nothing is written.

    salt: as the user gave it. Raises UserError for what the run itself would refuse at its start.
    """
    out = out or resolved.default_folder
    manifest = manifest_of(RunStore(out))
    salt_of(out, manifest, salt)
    cached: list[tuple[WorkUnit, Cell]] = []
    if out.exists():
        plan, store = make_plan(resolved), RunStore(out)
        merged_config(out, manifest, resolved)
        gone = {cell.id for unit in missing(plan, store) for cell in unit.cells}
        cached = [(unit, cell) for unit, cell in plan.cells if cell.id not in gone]
    # The cells of a new folder can be counted without reading any picture.
    points = {point for figure in resolved.figures for name in figure.systems for point in _points_of(figure, name)}
    total = sum(-(-len(resolved.datasets[point[2]]) // BLOCK) for point in points)
    lines = [f"run folder {out}", f"{several(total, 'cell')}, {len(cached)} cached, {total - len(cached)} to compute"]
    for figure in resolved.figures:
        dataset = resolved.datasets[figure.dataset]
        looked_at = dataset.ids[:: -(-len(dataset.ids) // SIZES_LOOKED_AT)]
        sizes = sorted({dataset.size(image_id) for image_id in looked_at}, key=lambda size: size[0] * size[1])
        pictures = several(len(dataset.ids), "picture")
        lines.append(f"\n{figure.id}: {figure.task}, {dataset.name}, {pictures}, {figure.channel}, "
                     f"{budget_text(figure.cbr, figure.bits, figure.uses)}, SNR {snr_text(figure.snr_db)} dB, "
                     f"{several(figure.reps, 'repetition')}{_asked(figure)}")  # fmt: skip
        for name in figure.systems:
            facts = resolved.systems[name]
            count = -(-len(dataset) // BLOCK) * len(list(_points_of(figure, name)))
            own = (name, figure.task, figure.dataset, figure.channel, figure.cbr, figure.bits, figure.uses)
            done = sum((t.system, t.task, t.dataset, t.channel, t.cbr, t.bits, t.uses) == own for t, _ in cached)
            spends = [_spend(figure, name, facts, *size) for size in dict.fromkeys((sizes[0], sizes[-1]))]
            lines.append(
                f"  {name}: {several(count, 'cell')}, {done} cached; per picture at most {' to '.join(spends)}"
            )
    return "\n".join(lines)


def _asked(figure: Figure) -> str:
    asked = other_request(figure.task, figure.requirement)
    return f", asked for by {shown(asked)!r}" if asked else ""


def _points_of(figure: Figure, system: str) -> Iterator[tuple]:
    """The operating points of a system in a figure: for one block of pictures, each is one cell."""
    of = (system, figure.task, figure.dataset, figure.channel, figure.cbr, figure.bits, figure.uses, figure.requirement)
    return ((*of, snr_db, rep) for snr_db in figure.snr_db for rep in range(figure.reps))


def _spend(figure: Figure, name: str, facts: SystemFacts, height: int, width: int) -> str:
    budget = figure.budget(height, width)
    uses = budget.allowed_uses(facts.bits_per_use)
    if uses < 1:
        raise BudgetTooSmall(
            f"{figure.id}: {budget_text(figure.cbr, figure.bits, figure.uses)} gives {name} no channel use for a "
            f"picture of {height}x{width}; give a larger CBR or bit budget"
        )
    bits = uses * (facts.bits_per_use or budget.analog_bits_per_use)
    return f"{uses} uses = {bits:g} bits ({height}x{width})"
