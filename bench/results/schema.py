"""The tables of a run: every column with its type, unit and meaning, and the check of a cell's rows.

Used by the store (which writes the tables), by the reader (which reads them) and by `python -m bench list columns`. A
new column is described here; `bench.sweep.worker.rows` fills it. Metrics and channels describe their own columns, in
their records. A value that was not simulated, or does not apply, is an empty field, never 0.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.measure.channel import CHANNELS, SNR_DEF, SNR_DEF_WORDS, csi_words
from bench.measure.metrics.table import METRICS, Metric
from systems.interface import NUM_CLASSES, TASKS

SCHEMA = 2  # it is raised when the same inputs would give other rows; it is part of every cell's id

TEXT, NUMBER, WHOLE, FLAG, COUNTS = "text", "number", "whole number", "true or false", "class counts"
STATUSES = ("ok", "outage")
SECONDS = "s per picture"  # the unit of times


@dataclass(frozen=True)
class Column:
    """One column of a CSV table.

    unit: "" if it has none.
    choices: the only values that are allowed; () means no such limit.
    since: the version of the tables that first had the column. In an older table it reads as empty.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    choices: tuple[str, ...] = ()
    since: int = 1


_POINT = (
    Column("channel", TEXT, "", f"channel model: {', '.join(CHANNELS.own_names)}, or one that a plug-in brings"),
    Column("csi", TEXT, "", f"what the receiver knows of the channel; {csi_words(CHANNELS.own_names)}"),
    Column("snr_def", TEXT, "", f"definition of the SNR; {SNR_DEF}: {SNR_DEF_WORDS}"),
    Column("snr_db", NUMBER, "dB", "SNR of the operating point"),
)
_BUDGET = (
    Column(
        "cbr_target", NUMBER, "uses per source value", "budget as channel bandwidth ratio; empty for a budget in bits"
    ),
    Column("bits_target", WHOLE, "bit", "budget in bits per picture; empty for a budget by CBR or in uses"),
    Column("uses_target", WHOLE, "use", "budget in complex channel uses per picture; empty for the other two", since=3),
)
#: Columns that name an operating point, beside the system and the pictures.
POINT = (*_POINT, *_BUDGET)
_SYSTEM = (
    Column("system", TEXT, "", "plain name of the system"),
    Column("variant", TEXT, "", "checkpoint, or modulation and code, that made the row; -bf16: multiplied in bfloat16"),
)
_TASK = Column("task", TEXT, "", "reconstruction or segmentation", TASKS)
_SET = Column("dataset", TEXT, "", "name of the data set")
_IMAGE = Column("image_id", TEXT, "", "name of the picture in its data set")
_CELL = Column("cell_id", TEXT, "", "first 16 hex digits of the sha256 of all that decides the rows of the cell")
_REP = Column("rep", WHOLE, "", "repetition, from 0: another draw of the channel for the same picture")
_STATUS = Column(
    "status", TEXT, "", "ok, or outage: nothing was delivered (manifest.json says what is scored)", STATUSES
)


def _score(metric: Metric) -> Column:
    """The column of a metric. It holds the value before `scale`, so a metric that is shown in per cent has no unit."""
    better = f"{'higher' if metric.higher_is_better else 'lower'} is better"
    plugin = "" if metric.name in METRICS.own_names else ", a metric of a plug-in"
    unit = metric.unit if metric.scale == 1 else ""
    return Column(metric.name, NUMBER, unit, f"{metric.meaning or metric.label}, {better}{plugin}")


#: One column per metric that single pictures have. Installing or removing a metric changes the table, and so the cells.
_SCORES = tuple(_score(metric) for metric in METRICS if metric.of_picture is not None)


SAMPLES = (
    Column("schema", WHOLE, "", "version of the rules by which the row was made"),
    _CELL,
    *_SYSTEM,
    _TASK,
    _SET,
    _IMAGE,
    Column("height", WHOLE, "pixel", "height of the picture"),
    Column("width", WHOLE, "pixel", "width of the picture"),
    _REP,
    Column("noise_id", WHOLE, "", "number of the channel's draw, equal for all systems; no seed"),
    *_POINT,
    Column("tx_power", NUMBER, "", "measured mean of |x|^2 over the picture's symbols"),
    *_BUDGET,
    Column("budget_uses", WHOLE, "use", "complex channel uses that the budget allows this system"),
    Column("n_source", WHOLE, "value", "source values, 3 x height x width"),
    Column("n_uses", WHOLE, "use", "complex channel uses spent, those for side information included"),
    Column("cbr", NUMBER, "uses per source value", "n_uses over n_source"),
    Column("bits_per_use", NUMBER, "bit per use", "bits that one complex use counts as; 4 for an analog system"),
    Column("bits", NUMBER, "bit", "bits spent: n_uses x bits_per_use, or coded_bits where the modulation varies"),
    Column("payload_bits", WHOLE, "bit", "bits of the compressed picture, before channel coding"),
    Column("header_bits", WHOLE, "bit", "bits of headers and checksums in the payload's frame"),
    Column("side_bits", WHOLE, "bit", "bits of side information"),
    Column("side_uses", WHOLE, "use", "complex channel uses that the side information costs"),
    Column("coded_bits", WHOLE, "bit", "bits after channel coding"),
    Column("mcs", TEXT, "", "modulation and code rate, such as 16qam-5/6"),
    Column("source_scale", NUMBER, "", "size at which the picture was compressed; 1 is full size"),
    Column(
        "source_chroma", TEXT, "", "how the compressed picture stores colour: 4:2:0, or 4:4:4 for all of it", since=2
    ),
    _STATUS,
    Column("stop_reason", TEXT, "", "why nothing was delivered"),
    Column("n_bits", WHOLE, "bit", "information bits that were compared"),
    Column("n_bit_errors", WHOLE, "bit", "compared information bits that were wrong after decoding"),
    Column("n_blocks", WHOLE, "block", "code blocks sent"),
    Column("n_block_errors", WHOLE, "block", "code blocks that failed their checksum"),
    Column("mse", NUMBER, "squared grey level", "mean squared error after rounding to 8 bits"),
    *_SCORES,
    Column("encode_s", NUMBER, SECONDS, "time to encode (not reproducible)"),
    Column("channel_s", NUMBER, SECONDS, "time of the channel (not reproducible)"),
    Column("decode_s", NUMBER, SECONDS, "time to decode (not reproducible)"),
    Column("batch", WHOLE, "picture", "pictures that were computed together (not reproducible)"),
    Column("device", TEXT, "", "device that computed the row (not reproducible)"),
)
CELLS = (
    *SAMPLES,
    Column(
        "confusion", COUNTS, "pixel", "class:intersection:predicted:labelled of each class that occurs, joined by ;"
    ),
)
CONFUSION = (
    _CELL, *_SYSTEM, _SET, _IMAGE, _POINT[0], _POINT[3], _REP,
    Column("class", WHOLE, "", "class id of PASCAL VOC, 0 is background"),
    Column("intersection", WHOLE, "pixel", "pixels that show the class and are labelled with it"),
    Column("predicted", WHOLE, "pixel", "pixels that the system labels with the class"),
    Column("labelled", WHOLE, "pixel", "pixels that show the class"),
    Column("union", WHOLE, "pixel", "predicted + labelled - intersection"),
)  # fmt: skip
SUMMARY = (
    *_SYSTEM,
    _TASK,
    _SET,
    _POINT[0],
    *_POINT[2:],
    *_BUDGET,
    Column("metric", TEXT, "", "what the row measures"),
    Column("higher_is_better", FLAG, "", "direction of the metric"),
    Column(
        "mean",
        NUMBER,
        "the metric's",
        "mean over pictures; for mIoU the value of the whole set; empty if a cell of the point failed",
    ),
    Column("std", NUMBER, "the metric's", "standard deviation over pictures; for mIoU the standard error"),
    Column("n_images", WHOLE, "picture", "pictures that have a value"),
    Column("n_reps", WHOLE, "", "repetitions per picture"),
    Column("ci_low", NUMBER, "the metric's", "lower end of the interval"),
    Column("ci_high", NUMBER, "the metric's", "upper end of the interval"),
    Column("ci_level", NUMBER, "", "level of the interval, 0.95"),
    Column("ci_method", TEXT, "", "how the interval was made"),
    Column("n_outage", WHOLE, "picture", "pictures lost in at least one repetition"),
    Column("limited", FLAG, "", "true for a run with --limit: a trial, not a result"),
    Column("run", TEXT, "", "name of the run"),
)
FAILURES = (
    _CELL, _SYSTEM[0], _SET,
    Column("images", TEXT, "", "names of the cell's pictures, joined by blanks"),
    _POINT[0], _POINT[3], *_BUDGET, _REP,
    Column("error", TEXT, "", "what went wrong, one line"),
)  # fmt: skip
PICTURES = (
    Column("figure", TEXT, "", "figure that shows the picture"),
    Column("kind", TEXT, "", "original, truth (the mask) or output"),
    *_SYSTEM, _TASK, _SET, _IMAGE, _POINT[0], _POINT[3], *_BUDGET,
    Column("n_uses", WHOLE, "use", "complex channel uses spent"),
    Column("bits", NUMBER, "bit", "bits spent"),
    *(column for column in _SCORES if column.name in ("psnr_db", "miou", "pixel_accuracy")), _STATUS,
    Column("file", TEXT, "", "path of the PNG, relative to the run"),
)  # fmt: skip

#: Every table of a run, by the name of its file without the ending.
TABLES = {
    "samples": SAMPLES,
    "confusion": CONFUSION,
    "summary": SUMMARY,
    "failures": FAILURES,
    "pictures": PICTURES,
    "cells": CELLS,
}


def names(table: Iterable[Column]) -> tuple[str, ...]:
    """Names of a table's columns, in order."""
    return tuple(column.name for column in table)


def first_names(table: Iterable[Column]) -> tuple[str, ...]:
    """Names of those columns that tables of every version have, in order."""
    return tuple(column.name for column in table if column.since == 1)


SAMPLE_COLUMNS = names(SAMPLES)
CELL_COLUMNS = names(CELLS)
CONFUSION_COLUMNS = names(CONFUSION)
SUMMARY_COLUMNS = names(SUMMARY)
FAILURE_COLUMNS = names(FAILURES)
PICTURE_COLUMNS = names(PICTURES)
COST_COLUMNS = ("encode_s", "channel_s", "decode_s", "batch", "device")


# ---------------------------------------------------------------- rows of a cell

_WHOLE = r"\d{1,24}"
_CLASS = "|".join(map(str, range(NUM_CLASSES)))
_COUNTS = rf"(?:{_CLASS})(?::{_WHOLE}){{3}}"
_PATTERNS = {
    TEXT: r"[^\0]*+",
    # Finite numbers as Python writes them: 1.5, 15, 1.5e-07. With an exponent above 307, 64 bits might overflow.
    NUMBER: r"(?:-?(?:\d(?:\.\d{1,25}+)?+[eE](?:-\d{1,3}|\+?(?:30[0-7]|[0-2]?\d?\d))|\d{1,300}+(?:\.\d{1,300}+)?+))?+",
    WHOLE: r"(?:\d{1,24}+(?:\.0)?+)?+",
    FLAG: r"(?:true|false)?",
    COUNTS: rf"(?:{_COUNTS}(?:;{_COUNTS})*)?",
}


def _pattern(column: Column) -> str:
    return "(?:" + "|".join(map(re.escape, (*column.choices, ""))) + ")" if column.choices else _PATTERNS[column.kind]


# The fields of one row are joined by NUL, which no field contains, so one match checks all of them.
_ROW = re.compile("\0".join(map(_pattern, CELLS)), re.DOTALL)
_FIELDS = {column.name: re.compile(_pattern(column), re.DOTALL) for column in CELLS}
_HEAD = list(CELL_COLUMNS)
_ID, _CONFUSION = CELL_COLUMNS.index("cell_id"), CELL_COLUMNS.index("confusion")


def read_cell_rows(cell_id: str, data: bytes) -> list[list[str]] | str:
    """The rows of a cell's file, with fields in the order of CELLS. If the file is wrong: a text that says what is
    wrong.
    """
    try:
        rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        return "it is not a CSV table in UTF-8"
    if not rows or rows[0] != _HEAD:
        return "its columns are not those of a cell"
    if len(rows) == 1:
        return "it has no rows"
    width = len(_HEAD)
    for row in rows[1:]:
        if len(row) != width:
            return f"a row has {len(row)} fields, not {width}"
        if row[_ID] != cell_id:
            return f"it holds rows of cell {row[_ID][:40]!r}"
        if _ROW.fullmatch("\0".join(row)) is None or (row[_CONFUSION] and not _adds_up(row[_CONFUSION])):
            return problem_of(dict(zip(CELL_COLUMNS, row, strict=True))) or "a row is damaged"
    return rows[1:]


def problem_of(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row of a cell, whose fields are text. None if nothing is."""
    for column in CELLS:
        text = row.get(column.name) or ""
        if _FIELDS[column.name].fullmatch(text) is None or "\0" in text:
            wanted = f"one of {', '.join(column.choices)}" if column.choices else f"a {column.kind}, or empty"
            return f"{column.name} is {text[:40]!r}, it must be {wanted}"
    if not _adds_up(row.get("confusion") or ""):
        return "its confusion counts do not add up"
    return None


def parse_confusion(text: str) -> list[tuple[int, int, int, int]]:
    """The field `confusion` of a cell's row -> (class, intersection, predicted, labelled) of the classes that occur."""
    entries = (map(int, entry.split(":")) for entry in text.split(";")) if text else ()
    return [(label, both, predicted, labelled) for label, both, predicted, labelled in entries]


def _adds_up(confusion: str) -> bool:
    """Whether each class occurs once, and never more pixels are right than predicted or labelled."""
    counts = parse_confusion(confusion)
    return len({entry[0] for entry in counts}) == len(counts) and all(
        both <= min(predicted, labelled) for _, both, predicted, labelled in counts
    )
