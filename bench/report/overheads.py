"""The table of what each system of a run spends: channel uses, bits, parameters, operations, time.

`bench.report.tables` calls it. All values are measured: channel uses and bits are from the audited rows, latency is the
median of the measured seconds, and torch's counter counts the floating-point operations for encoding and decoding one
picture. The operations were counted when the run ended (`bench.perf.flops`), and are in tables/flops.json, so no
network is built here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.undertrained import undertrained
from bench.report import system_looks
from bench.results.reader import LONGEST_FACT, Run, is_count, points_without_mean
from bench.util.markdown import cell, markdown_table

OVERHEAD_COLUMNS = (
    "figure",
    "system",
    "variant",
    "undertrained",
    "height",
    "width",
    "n_uses",
    "budget_uses",
    "cbr",
    "bits",
    "payload_bits",
    "coded_bits",
    "side_bits",
    "side_uses",
    "parameters",
    "flops_encode",
    "flops_decode",
    "encode_ms",
    "decode_ms",
    "device",
    "images_seen",
    "trained_on",
    "knowledge",
)
UNDERSPENT = 0.95  # if a system spends a smaller share of its budget, the tables say so
_HEADERS = {
    "figure": "Figure",
    "system": "System",
    "n_uses": "Channel uses",
    "cbr": "CBR",
    "coded_bits": "Coded bits",
    "side_bits": "Side info (bits)",
    "parameters": "Parameters",
    "flops": "FLOPs",
    "encode_ms": "Encode (ms)",
    "decode_ms": "Decode (ms)",
    "images_seen": "Images seen",
    "trained_on": "Trained on",
    "knowledge": "Knew before",
}


def overhead_table(run: Run, flops: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    """The spending of each system of each figure, with OVERHEAD_COLUMNS.

    flops: {(figure, system): {"encode": n, "decode": n}}. n_uses, cbr and bits are means over pictures of what was
    sent. Latencies are medians in milliseconds per picture. Both are empty for a system that lacks cells at any SNR of
    the figure: it could fail where it spends most. height and width are those of the picture for which operations were
    counted: the figure's first.
    """
    table = []
    for figure in run.figures:
        samples, absent = run.samples_of(figure), points_without_mean(run.summary_of(figure))
        lacking = set(zip(absent["system"], absent["variant"]))
        for system in system_looks.figure_looks(figure, run.system_facts).sorted(samples["system"]):
            for variant, own in samples[samples["system"] == system].groupby("variant", sort=True):
                facts = run.system_facts.get(system, {})
                counted = flops.get((figure["id"], system), {})
                sent = own.iloc[:0] if (system, variant) in lacking else own
                mean = {
                    c: sent[c].mean()
                    for c in OVERHEAD_COLUMNS[OVERHEAD_COLUMNS.index("n_uses") : OVERHEAD_COLUMNS.index("parameters")]
                }
                table.append(
                    {
                        "figure": figure["id"],
                        "system": system,
                        "variant": variant,
                        "undertrained": system in undertrained(run, [figure]),
                        "height": own["height"].iloc[0],
                        "width": own["width"].iloc[0],
                        **mean,
                        "parameters": facts.get("parameters"),
                        "flops_encode": counted.get("encode"),
                        "flops_decode": counted.get("decode"),
                        "encode_ms": 1000 * sent["encode_s"].median(),
                        "decode_ms": 1000 * sent["decode_s"].median(),
                        "device": " ".join(sorted(own["device"].unique())),
                        "images_seen": seen_in_all(facts.get("images_seen")),
                        "trained_on": _trained_on(facts.get("data")),
                        "knowledge": str(facts.get("knowledge", "")),
                    }
                )
    return pd.DataFrame(table, columns=list(OVERHEAD_COLUMNS))


def seen_in_all(value) -> float | None:
    """The sum of `images_seen`: None, a number, or one number per task or stage of training. `Run.system_facts` leaves
    out what is no count.
    """
    return sum(seen_in_all(item) or 0 for item in value.values()) if isinstance(value, dict) else value


def _trained_on(data) -> str:
    """The sets that weights were trained on, in words. Sets that a pack names are only as true as the pack."""
    return _sources(data)[:LONGEST_FACT] + (" (as a pack says)" if _has_packs(data) else "")


def _has_packs(data) -> bool:
    """Whether a sidecar's `data` names a pack at any depth."""
    return isinstance(data, dict) and ("packs" in data or any(map(_has_packs, data.values())))


def _sources(data) -> str:
    """The sets that a sidecar's `data` names (a text, a list, or {task: {"sources": [...]}}), each once."""
    if isinstance(data, dict):
        parts = [data["sources"]] if "sources" in data else list(data.values())
        names = [name for part in parts for name in _sources(part).split(", ")]
    else:
        names = [str(item) for item in data] if isinstance(data, (list, tuple)) else [str(data or "")]
    return ", ".join(dict.fromkeys(name for name in names if name))


def overhead_markdown(table: pd.DataFrame, facts: Mapping[str, Mapping] | None = None) -> str:
    """The table of overheads in Markdown. facts: what the manifest says of each system, for its label."""
    looks = system_looks.looks_of(table["system"], facts)
    rows = []
    for row in table.itertuples():
        name = cell(looks.label(row.system)) + (" (undertrained)" if row.undertrained else "")
        flops = np.nansum([row.flops_encode or 0, row.flops_decode or 0])
        cells = [
            row.figure,
            name,
            _count(row.n_uses),
            "" if _missing(row.cbr) else f"{row.cbr:.4f}",
            _count(row.coded_bits),
            _count(row.side_bits),
            _count(row.parameters),
            engineering(flops),
            _ms(row.encode_ms),
            _ms(row.decode_ms),
            _count(row.images_seen),
            cell(row.trained_on),
            cell(row.knowledge),
        ]
        rows.append(cells)
    note = (
        "Latency: median per picture on this run's machine. FLOPs: of the networks, encoding and decoding one picture "
        "of the figure, a multiply-add counts as two."
    )
    align = "ll" + "r" * (len(_HEADERS) - 4) + "ll"
    return markdown_table([*_HEADERS.values()], align, rows) + f"\n\n{note}\n" + spending_notes(table, looks)


def spending_notes(table: pd.DataFrame, looks: system_looks.Looks) -> str:
    """One line for each row whose system leaves more than 5 % of its budget unspent. "" if there is none."""
    rows = table[table["n_uses"] < UNDERSPENT * table["budget_uses"]].itertuples()
    return "".join(
        f"\n{row.figure}: {cell(looks.label(row.system))} spends {share:.0f} % of the budget.\n"
        for row, share in ((row, 100 * row.n_uses / row.budget_uses) for row in rows)
    )


def _missing(value) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _count(value) -> str:
    return "" if _missing(value) else f"{round(value):,}"


def _ms(value) -> str:
    return "" if _missing(value) else f"{value:.1f}"


def engineering(value: float) -> str:
    """A number with three digits and a unit, such as 1.2 G. "" for 0."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return "" if not value else f"{value:.3g}"


def flops_path(run: Run) -> Path:
    """The file with the counted operations of a run."""
    return run.directory / "tables" / "flops.json"


def flops_keys(run: Run) -> dict[tuple[str, str], str]:
    """(figure, system) -> the key of its count in flops.json.

    The key holds everything that decides the count: the system's identity, the task, the size of the figure's first
    picture, and the budget.
    """
    keys = {}
    for figure in run.figures:
        samples = run.samples_of(figure)
        budget = figure["cbr"] if figure["cbr"] is not None else figure["bits"] or figure.get("uses")
        for system, own in samples.groupby("system", sort=True):
            facts = run.system_facts.get(system, {})
            first = own.iloc[0]
            identity = json.dumps(facts.get("identity", {}), sort_keys=True)
            keys[figure["id"], system] = (
                f"{system} {first['variant']} {hashlib.sha256(identity.encode()).hexdigest()[:12]} "
                f"{figure['task']} {int(first['height'])}x{int(first['width'])} {budget}"
            )
    return keys


def kept_flops(run: Run) -> dict[tuple[str, str], dict[str, float]]:
    """{(figure, system): {"encode": n, "decode": n}}, as counted when the run ended. Systems that were not counted are
    missing.
    """
    try:
        kept = json.loads(flops_path(run).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = {}
    for pair, key in flops_keys(run).items():
        entry = kept.get(key) if isinstance(kept, dict) else None
        if isinstance(entry, dict) and all(is_count(entry.get(k)) for k in ("encode", "decode")):
            found[pair] = entry
    return found
