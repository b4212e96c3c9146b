"""Tables of a run, CSV at full precision and Markdown for the eye: results of each figure, overheads, and the claims.

Overheads are counted, not quoted: channel uses and bits from the audited rows, latency as the median of the measured
seconds, floating-point operations by torch's counter over one picture's encoding and decoding.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.undertrained import undertrained
from bench.report import style
from bench.report.class_tables import class_markdown, class_table
from bench.report.curves import AXES
from bench.results.reader import Run
from bench.util.files import write_atomic
from systems.errors import UserError

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
UNDERSPENT = 0.95  # below this share of the budget a comparison is no longer one at matched rate, and tables say so
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


def write_tables(run: Run, count_flops: bool = True) -> list[Path]:
    """Write every table of the run into its folder tables/; gives the files. `count_flops` builds each system once."""
    from bench.analysis import claims

    written = []
    overheads = overhead_table(run, flops_of(run) if count_flops else {})
    for experiment in run.experiments:
        rows = results_table(run, experiment)
        if len(rows):
            text = results_markdown(rows, experiment["title"])
            text += spending_notes(overheads[overheads["figure"] == experiment["id"]])
            written += _write(run, f"results-{experiment['id']}", rows, text)
            if experiment["task"] == "segmentation":
                classes = class_table(run, experiment)
                written += _write(
                    run, f"classes-{experiment['id']}", classes, class_markdown(classes, experiment["title"])
                )
    if len(overheads):
        written += _write(run, "overheads", overheads, overhead_markdown(overheads))
    if len(run.samples):
        verdicts = claims.judge(run)
        written += _write(run, "claims", claims.table(verdicts), claims.markdown(verdicts))
    return written


def _write(run: Run, name: str, table: pd.DataFrame, markdown: str) -> list[Path]:
    paths = [run.directory / "tables" / f"{name}.csv", run.directory / "tables" / f"{name}.md"]
    note = f"\nRun {run.name}." + (" LIMITED RUN (`--limit`): a trial, not a result." if run.limited else "") + "\n"
    write_atomic(paths[0], table.to_csv(index=False, lineterminator="\n").encode())
    write_atomic(paths[1], (markdown + note).encode())
    return paths


# ---------------------------------------------------------------- results


def results_table(run: Run, experiment: dict) -> pd.DataFrame:
    """The figure's own metric: a row a system and SNR, in the order of its legend."""
    rows = run.summary_of(experiment)
    rows = rows[rows["metric"] == experiment["metric"]].copy()
    rows.insert(0, "figure", experiment["id"])
    rows = rows.assign(_order=rows["system"].map(style.legend_places(rows["system"]))).sort_values(
        ["_order", "variant", "snr_db"], kind="stable"
    )
    columns = [
        "figure",
        "system",
        "variant",
        "dataset",
        "channel",
        "cbr_target",
        "bits_target",
        "snr_db",
        "metric",
        "mean",
        "std",
        "ci_low",
        "ci_high",
        "ci_level",
        "n_images",
        "n_outage",
        "limited",
    ]
    return rows[columns].reset_index(drop=True)


def results_markdown(rows: pd.DataFrame, title: str) -> str:
    """Systems by SNR, mean and 95 % interval. Where pictures were lost it says how many; not simulated is empty."""
    metric = rows["metric"].iloc[0]
    name, scale = AXES[metric]
    places = 3 if metric in ("ms_ssim", "lpips") else 2
    snrs = sorted(rows["snr_db"].unique())
    of = "mean over images" if metric in ("psnr_db", "ms_ssim", "lpips") else "of the whole data set"
    lines = [f"**{title}**: {name}, {of}, with its 95 % interval.", ""]
    lines += ["| System | " + " | ".join(f"{snr:g} dB" for snr in snrs) + " |", "|---|" + "---:|" * len(snrs)]
    for (system, variant), own in rows.groupby(["system", "variant"], sort=False):
        label = style.label_of(system) + (
            f" [{variant}]" if rows[rows["system"] == system]["variant"].nunique() > 1 else ""
        )
        cells = []
        for snr in snrs:
            at = own[own["snr_db"] == snr]
            row = at.iloc[-1] if len(at) else None
            if row is not None and row["n_outage"] > 0:
                cells.append(f"outage ({row['n_outage']:g} lost)")
            elif row is None or np.isnan(row["mean"]):
                cells.append("")
            elif np.isnan(row["ci_low"]):
                cells.append(f"{scale * row['mean']:.{places}f}")
            else:
                low, high = (f"{scale * row[end]:.{places}f}" for end in ("ci_low", "ci_high"))
                cells.append(f"{scale * row['mean']:.{places}f} ({low} to {high})")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- overheads


def overhead_table(run: Run, flops: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    """What each system of each figure spends, OVERHEAD_COLUMNS. flops: {(figure, system): {"encode": n, "decode": n}}.

    n_uses, cbr and the bits are means over pictures, of what was sent; latencies are medians, milliseconds a picture.
    Height and width are the picture's that FLOPs were counted on: the figure's first.
    """
    table = []
    for experiment in run.experiments:
        samples = run.samples_of(experiment)
        for system in style.legend_order(set(samples["system"])):
            for variant, own in samples[samples["system"] == system].groupby("variant", sort=True):
                facts = run.system_facts.get(system, {})
                counted = flops.get((experiment["id"], system), {})
                mean = {
                    c: own[c].mean()
                    for c in OVERHEAD_COLUMNS[OVERHEAD_COLUMNS.index("n_uses") : OVERHEAD_COLUMNS.index("parameters")]
                }
                table.append(
                    {
                        "figure": experiment["id"],
                        "system": system,
                        "variant": variant,
                        "undertrained": system in undertrained(run),
                        "height": own["height"].iloc[0],
                        "width": own["width"].iloc[0],
                        **mean,
                        "parameters": facts.get("parameters"),
                        "flops_encode": counted.get("encode"),
                        "flops_decode": counted.get("decode"),
                        "encode_ms": 1000 * own["encode_s"].median(),
                        "decode_ms": 1000 * own["decode_s"].median(),
                        "device": " ".join(sorted(own["device"].unique())),
                        "images_seen": _total(facts.get("images_seen")),
                        "trained_on": _sources(facts.get("data")),
                        "knowledge": facts.get("knowledge", ""),
                    }
                )
    return pd.DataFrame(table, columns=list(OVERHEAD_COLUMNS))


def _total(value) -> float | None:
    """A sidecar's `images_seen` is a number, or one a task or stage of training."""
    if isinstance(value, dict):
        counts = [_total(item) for item in value.values()]
        return sum(count for count in counts if count is not None)
    return value if isinstance(value, (int, float)) else None


def _sources(data) -> str:
    """The sets that a sidecar's `data` names: a text, a list, or {task: {"sources": [...]}}; each once."""
    if isinstance(data, dict):
        parts = [data["sources"]] if "sources" in data else list(data.values())
        names = [name for part in parts for name in _sources(part).split(", ")]
    else:
        names = [str(item) for item in data] if isinstance(data, (list, tuple)) else [str(data or "")]
    return ", ".join(dict.fromkeys(name for name in names if name))


def overhead_markdown(table: pd.DataFrame) -> str:
    """The overheads for the eye."""
    lines = ["| " + " | ".join(_HEADERS.values()) + " |", "|---|---|" + "---:|" * (len(_HEADERS) - 4) + "---|---|"]
    for row in table.itertuples():
        name = style.label_of(row.system) + (" (undertrained)" if row.undertrained else "")
        flops = np.nansum([row.flops_encode or 0, row.flops_decode or 0])
        cells = [
            row.figure,
            name,
            _count(row.n_uses),
            f"{row.cbr:.4f}",
            _count(row.coded_bits),
            _count(row.side_bits),
            _count(row.parameters),
            engineering(flops),
            _ms(row.encode_ms),
            _ms(row.decode_ms),
            _count(row.images_seen),
            row.trained_on,
            row.knowledge,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        "Latency: median a picture on this run's machine. FLOPs: of the networks, encoding and decoding one picture of "
        "the figure, a multiply-add counts as two."
    )
    return "\n".join(lines) + f"\n\n{note}\n" + spending_notes(table)


def spending_notes(table: pd.DataFrame) -> str:
    """A line for each row of an overhead table whose system leaves more than 5 % of its budget unspent; "" for none."""
    rows = table[table["n_uses"] < UNDERSPENT * table["budget_uses"]].itertuples()
    return "".join(
        f"\n{row.figure}: {style.label_of(row.system)} spends {share:.0f} % of the budget.\n"
        for row, share in ((row, 100 * row.n_uses / row.budget_uses) for row in rows)
    )


def _missing(value) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _count(value) -> str:
    return "" if _missing(value) else f"{round(value):,}"


def _ms(value) -> str:
    return "" if _missing(value) else f"{value:.1f}"


def engineering(value: float) -> str:
    """Three digits and a unit, 1.2 G; "" for nothing."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return "" if not value else f"{value:.3g}"


def measure_costs(system, link, device: str = "cpu") -> dict[str, int]:
    """Floating-point operations {"encode", "decode"} of one picture of the link's size, a multiply-add as two.

    torch counts matrix products, convolutions and attention; what is done outside torch (JPEG, LDPC decoding) and
    elementwise work is not in it.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bench.measure.channel import transmit
    from systems import cache as memo

    memo.forget()  # a result that is remembered costs nothing
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, link.height, link.width), generator=generator).to(device)
    counts = {}
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            transmission = system.encode(image, link)
        counts["encode"] = counter.get_total_flops()
        received = transmit(transmission, link, [0])
        with FlopCounterMode(display=False) as counter:
            system.decode(received, link)
        counts["decode"] = counter.get_total_flops()
    return counts


def flops_of(run: Run) -> dict[tuple[str, str], dict[str, float]]:
    """FLOPs of every system with parameters in every figure, at the size of the figure's first picture.

    Counted once and kept in tables/flops.json under the system's identity: plotting again builds no network. A system
    that cannot be built here (its package is elsewhere) has no entry.
    """
    path = run.directory / "tables" / "flops.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    counted, fresh = {}, False
    for experiment in run.experiments:
        samples = run.samples_of(experiment)
        for system in sorted(set(samples["system"])):
            facts = run.system_facts.get(system, {})
            if not facts.get("parameters"):
                continue
            first = samples[samples["system"] == system].iloc[0]
            height, width = int(first["height"]), int(first["width"])
            budget = experiment["cbr"] if experiment["cbr"] is not None else experiment["bits"]
            identity = hashlib.sha256(json.dumps(facts.get("identity", {}), sort_keys=True).encode()).hexdigest()[:12]
            key = f"{system} {first['variant']} {identity} {experiment['task']} {height}x{width} {budget}"
            if key not in kept:
                found = _count_flops(system, facts, experiment, height, width)
                if found is None:
                    continue
                kept[key], fresh = found, True
            counted[experiment["id"], system] = kept[key]
    if fresh:
        write_atomic(path, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
    return counted


def _count_flops(system: str, facts: dict, experiment: dict, height: int, width: int) -> dict[str, int] | None:
    from bench.spec.identity import build
    from systems.interface import Budget, Link

    link = Link(
        experiment["task"],
        height,
        width,
        Budget.by_rule(experiment["cbr"], experiment["bits"], height, width),
        experiment["channel"],
        20.0,
        experiment.get("requirement", ""),
    )
    options = dict(facts.get("options", {}))
    # FLOPs do not depend on the weights, and of a file the manifest keeps the name alone.
    if options.get("checkpoint", "shipped") != "shipped":
        options["checkpoint"] = "none"
    try:
        return measure_costs(build(system, options), link)
    except UserError:
        return None
