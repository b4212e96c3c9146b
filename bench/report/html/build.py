"""From runs to the JSON that the page reads, and to the page itself. Called by `python -m bench report`."""

from __future__ import annotations

import json
import math
import re
from html import escape
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.all_pairs import all_pairs
from bench.analysis.claims import judge
from bench.analysis.intervals import few
from bench.analysis.quantity import OUTAGE_RATE, has_labels, outage_words, quantities
from bench.analysis.training_spread import of_difference, spread
from bench.analysis.undertrained import undertrained
from bench.data.voc import VOC_CLASSES, voc_palette
from bench.measure.metrics.table import metrics_of
from bench.measure.rules import RULES
from bench.measure.tasks import other_request
from bench.report import system_looks
from bench.report.html.embed import embedded_pictures
from bench.report.overheads import kept_flops, overhead_table, seen_in_all
from bench.report.published_curves import published_for
from bench.results.find import check_once
from bench.results.reader import Run, told_apart
from bench.util.files import write_atomic

MOST_ROWS = 200_000  # with more samples per figure, the page has no single pictures, and says so


def write_report(runs: list[Run], out: Path, picture_mib: float) -> Path:
    """Write one self-contained HTML file for `runs` to `out`, and return its path.

    picture_mib: the most MiB of pictures in the page. Raises UserError if a run is there twice, if a run's tables are
    damaged, or if `out` cannot be written.
    """
    check_once(run.directory for run in runs)
    page = _part("page.html")
    content = report_data(runs, picture_mib)
    title = "semantic-bench: " + ", ".join(run["name"] for run in content["runs"])
    data = json.dumps(_plain(content), separators=(",", ":"), allow_nan=False)
    filled = {
        "{{title}}": escape(title),
        "{{rules}}": _rules(),
        "/* {{style}} */": _part("vendor/uplot.min.css") + _part("report.css"),
        "/* {{chart}} */": _part("vendor/uplot.min.js"),
        "/* {{script}} */": "".join(map(_part, ("csv.js", "verdict.js", "report.js"))),
        # A name may contain "</script>". In JSON strings, "<" can be written as an escape.
        '"{{data}}"': data.replace("<", "\\u003c"),
    }
    # In one pass: the name of a run may be one of these keys.
    page = re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], page)
    write_atomic(out, page.encode("utf-8", "replace"))
    return out


def _rules() -> str:
    """Items of the list "What is held equal"."""
    items = []
    for rule in RULES:
        tests = ", ".join(test.partition("::")[2] for test in rule.tests)
        items.append(f"<li><b>{escape(rule.name)}.</b> {escape(rule.text)} <small>({escape(tests)})</small></li>")
    return "\n          ".join(items)


def _part(name: str) -> str:
    return files("bench.report.html").joinpath(*name.split("/")).read_text(encoding="utf-8")


def report_data(runs: list[Run], picture_mib: float) -> dict[str, Any]:
    """Everything that the page shows, as plain JSON with the keys below."""
    runs, several = told_apart(runs), len(runs) > 1
    figures, systems, claims = [], {}, []
    for run in runs:
        spent = overhead_table(run, kept_flops(run))
        for figure in run.figures:
            rows = run.summary_of(figure)
            if len(rows):
                key = {name: _key(run, name, several) for name in figure["systems"]}
                own = spent[spent["figure"] == figure["id"]]
                figures.append(_figure(run, figure, rows, key) | {"spent": _spent(own, key)})
        looks = system_looks.looks_of(run.system_facts, run.system_facts)
        for name, facts in run.system_facts.items():
            systems[_key(run, name, several)] = _system(run, name, facts, several, looks[name])
        if run.shows_a_paper_figure():
            claims += [_claim(run, verdict) for verdict in judge(run)]
    return {
        "runs": [_run(run) for run in runs],
        "metrics": _metrics(),
        "few": next(n for n in count(2) if not few(n)),  # with fewer pictures nothing is called tied
        "figures": figures,
        "systems": systems,
        "claims": claims,
        "classes": list(VOC_CLASSES),
        "palette": voc_palette().tolist()[:21],
        "pictures": embedded_pictures(runs, picture_mib, lambda run, name: _key(run, name, several)),
    }


def _metrics() -> dict[str, dict[str, Any]]:
    """What the page shows of each metric, plug-ins included, and of the rate of lost pictures."""
    return {
        metric.name: {"label": metric.label, "unit": metric.unit, "factor": metric.scale, "digits": metric.digits,
                      "higher": metric.higher_is_better}
        for metric in quantities()
    }  # fmt: skip


def _key(run: Run, system: str, several: bool) -> str:
    return f"{run.name}:{system}" if several else system


def _run(run: Run) -> dict[str, Any]:
    manifest = {key: value for key, value in run.manifest.items() if key != "systems"}
    argv = [str(word) for word in manifest.get("argv") or []]
    return {"name": run.name, "command": " ".join(["python -m bench", *argv]), "limited": run.limited,
            "undertrained": sorted(undertrained(run)), "manifest": manifest}  # fmt: skip


def _system(run: Run, name: str, facts: dict[str, Any], several: bool, look: system_looks.Style) -> dict[str, Any]:
    dash = [float(length) for length in look.dash[1]]
    label = (f"{run.name}: " if several else "") + look.label
    label += " (undertrained)" if name in undertrained(run) else ""
    return {
        "label": label, "colour": look.colour, "dash": dash, "order": look.order, "marker": look.marker,
        "variant": ", ".join(_variants(run, name)), "parameters": facts.get("parameters"),
        "seen": seen_in_all(facts.get("images_seen")), "knowledge": str(facts.get("knowledge") or ""),
        "sha256": str(facts.get("sha256") or ""), "licence": str(facts.get("licence") or ""),
    }  # fmt: skip


def _variants(run: Run, name: str) -> list[str]:
    """The variants of a system's rows: what it says of itself may be another."""
    rows = run.summary
    return sorted(rows.loc[rows["system"] == name, "variant"].unique())


def _claim(run: Run, verdict) -> dict[str, Any]:
    return {"run": run.name, "statement": verdict.statement, "source": verdict.source, "verdict": verdict.verdict,
            "restsOn": verdict.rests_on, "numbers": list(verdict.numbers),
            "undertrained": list(verdict.undertrained)}  # fmt: skip


def _figure(run: Run, figure: dict[str, Any], rows: pd.DataFrame, key: dict[str, str]) -> dict[str, Any]:
    """A figure: its points, the paired differences of all pairs, the values of each picture. key: names in the page."""
    samples = run.samples_of(figure)
    metrics = [name for name in _metrics() if rows.loc[rows["metric"] == name, "mean"].notna().any()]
    snrs = sorted(float(snr) for snr in rows["snr_db"].unique())
    points: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        own = rows[rows["metric"] == metric].drop_duplicates(["system", "snr_db"]).set_index(["system", "snr_db"])
        points[metric] = {
            key[name]: [_point(own, name, snr) for snr in snrs] for name in key if name in own.index.get_level_values(0)
        }
    # A pair: two systems, place of the SNR, difference, its interval, pictures, and how far another training moves it
    # (null: cells of a training are absent, so nothing is decided).
    # All pictures count in a difference, so that nobody gains by losing some. As `plot` does, the page has none where a
    # curve is not drawn: where a cell of the point failed, and on AWGN where pictures were lost.
    known = rows[rows["mean"].notna() & ((figure["channel"] != "awgn") | ~(rows["n_outage"] > 0))]
    there = {metric: set(zip(own["system"], own["snr_db"])) for metric, own in known.groupby("metric")}
    compared = [metric for metric in metrics if metric != OUTAGE_RATE.name]
    at = {name: figure[name] for name in ("task", "dataset", "channel")}
    at |= {f"{rule}_target": figure.get(rule) for rule in ("cbr", "bits", "uses")}
    moves = {(name, metric): spread(run, name, at, metric) for name in key for metric in compared}
    pairs = {
        metric: [
            [key[d.a], key[d.b], snrs.index(d.snr_db), _number(d.mean), _number(d.low), _number(d.high), d.n,
             _number(of_difference(moves[d.a, metric], moves[d.b, metric]))]
            for d in all_pairs(samples, run.confusion, metric)
            if there[metric].issuperset([(d.a, d.snr_db), (d.b, d.snr_db)])
        ]
        for metric in compared
    }  # fmt: skip
    return {
        "id": figure["id"], "run": run.name, "title": figure.get("title") or figure["id"], "task": figure["task"],
        "dataset": figure["dataset"], "channel": figure["channel"], "cbr": figure["cbr"], "bits": figure["bits"],
        "uses": figure["uses"], "asked": other_request(figure["task"], figure["requirement"]),
        "metric": figure["metric"] if figure["metric"] in metrics else (metrics[0] if metrics else ""),
        "group": figure.get("budgets_of") or "", "snrs": snrs, "systems": list(key.values()), "metrics": metrics,
        "points": points, "pairs": pairs,
        "classes": _classes(run, figure, run.whole_samples_of(figure), key, snrs),
        "samples": _samples(samples, key, figure["task"]), "rows": len(samples),
        "published": {metric: _published(figure, metric, snrs) for metric in metrics},
        "lostAs": outage_words(figure["task"]),
    }  # fmt: skip


def _published(figure: dict[str, Any], metric: str, snrs: list[float]) -> list[dict[str, Any]]:
    """Curves that others published for this data set and channel: over the SNR (snr None), and over the CBR at one."""
    found = [(None, curve) for curve in published_for(figure, metric)]
    found += [(snr, curve) for snr in snrs for curve in published_for(figure, metric, "cbr_target", snr)]
    return [
        {"label": curve.label, "x": curve.x.tolist(), "values": curve.values.tolist(), "origin": curve.origin,
         "snr": snr}
        for snr, curve in found
    ]  # fmt: skip


def _point(own: pd.DataFrame, name: str, snr: float) -> list | None:
    """[mean, low, high, pictures, lost]. None if nothing was simulated."""
    if (name, snr) not in own.index:
        return None
    row = own.loc[(name, snr)]
    if pd.isna(row["mean"]):
        return None
    lost = 0 if pd.isna(row["n_outage"]) else int(row["n_outage"])
    return [_number(row["mean"]), _number(row["ci_low"]), _number(row["ci_high"]), int(row["n_images"]), lost]


#: Columns of the page's table of systems, from the run's table of overheads.
SPENT = ("n_uses", "side_uses", "payload_bits", "bits", "flops_encode", "flops_decode", "encode_ms", "decode_ms")


def _spent(table: pd.DataFrame, key: dict[str, str]) -> dict[str, dict[str, float | None]]:
    """What each system of a figure spends per picture, SPENT, by its name in the page."""
    rows = table.drop_duplicates("system", keep="last").set_index("system")
    return {
        key[name]: {column: _number(float("nan") if value is None else value) for column, value in row.items()}
        for name, row in rows[list(SPENT)].iterrows()
        if name in key
    }


def _classes(run: Run, figure: dict, samples: pd.DataFrame, key: dict[str, str], snrs: list[float]) -> dict[str, list]:
    """IoU in per cent of each class, by system: one list per SNR, with null for a class that does not occur."""
    if not has_labels(figure["task"]):
        return {}
    own = run.confusion[run.confusion["cell_id"].isin(samples["cell_id"].unique())]
    sums = own.groupby(["system", "snr_db", "class"])[["intersection", "union"]].sum()
    table: dict[str, list] = {}
    for name, shown in key.items():
        table[shown] = []
        for snr in snrs:
            values: list[float | None] = [None] * len(VOC_CLASSES)
            if (name, snr) in sums.index.droplevel(2):
                for label, row in sums.loc[(name, snr)].iterrows():
                    if row["union"] > 0:
                        values[int(label)] = round(100 * row["intersection"] / row["union"], 2)
            table[shown].append(values)
    return table


def _samples(samples: pd.DataFrame, key: dict[str, str], task: str) -> dict[str, Any] | None:
    """The values of each picture, column by column. None if there are too many."""
    if len(samples) > MOST_ROWS:
        return None
    names = [metric.name for metric in metrics_of(task) if metric.of_picture is not None]
    images = list(dict.fromkeys(samples["image_id"]))
    systems = list(key)
    place = {image: index for index, image in enumerate(images)}
    return {
        "images": images,
        "systems": [key[name] for name in systems],
        "system": samples["system"].map({name: index for index, name in enumerate(systems)}).tolist(),
        "image": samples["image_id"].map(place).tolist(),
        "snr": samples["snr_db"].tolist(),
        "rep": [int(rep) for rep in samples["rep"]],
        "uses": [_number(value) for value in samples["n_uses"]],
        "lost": [int(status == "outage") for status in samples["status"]],
        "values": {
            name: [_number(value) for value in samples[name].astype(float).round(5)]
            for name in names
            if name in samples and samples[name].notna().any()
        },
    }


def _number(value: Any) -> float | None:
    """A finite number, or None, because JSON has no NaN."""
    value = float(value)
    return None if not math.isfinite(value) else (int(value) if value == int(value) else value)


def _plain(value: Any) -> Any:
    """JSON without NaN and infinities."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.floating, float)):
        return float(value) if math.isfinite(value) else None
    return value
