"""The rows of samples.csv, one per picture. `work` calls it; `bench.results.schema` explains the columns."""

from __future__ import annotations

from typing import Any

from bench.measure.audit import REPORT_COLUMNS
from bench.measure.channel import CHANNELS, SNR_DEF
from bench.measure.point import Batch, Delivered
from bench.results.schema import SAMPLE_COLUMNS, SCHEMA
from bench.sweep.plan import Cell, WorkUnit

assert set(REPORT_COLUMNS) <= set(SAMPLE_COLUMNS)


def sample_rows(
    unit: WorkUnit,
    cell: Cell,
    batch: Batch,
    delivered: Delivered,
    scores: list[dict[str, Any]],
    *,
    variant: str,
    dataset: str,
    device: str,
) -> list[dict[str, Any]]:
    """The rows of a batch of a cell.

    scores: the metrics of each picture, by column.
    variant: of the system. dataset: name of the data set.
    """
    sent = delivered.sent
    height, width = batch.size
    report = {**sent.report, **delivered.report}
    rows = []
    for index, image_id in enumerate(batch.ids):
        row: dict[str, Any] = {
            "schema": SCHEMA, "cell_id": cell.id, "system": unit.system, "variant": variant,
            "task": unit.task, "dataset": dataset, "image_id": image_id, "height": height, "width": width,
            "rep": cell.rep, "noise_id": delivered.noise_ids[index], "channel": unit.channel,
            "csi": CHANNELS[unit.channel].csi.name, "snr_def": SNR_DEF,
            "snr_db": cell.snr_db, "tx_power": sent.spent.tx_power[index], "cbr_target": unit.cbr,
            "bits_target": unit.bits, "uses_target": unit.uses, "budget_uses": sent.spent.budget_uses,
            "n_source": 3 * height * width,
            "n_uses": sent.spent.n_uses, "cbr": sent.spent.cbr,
            "bits_per_use": float(sent.spent.bits_per_use[index]), "bits": sent.spent.bits[index],
            "side_bits": sent.spent.side_bits,
            "side_uses": sent.spent.side_uses, "status": "ok", "encode_s": sent.seconds,
            "channel_s": delivered.channel_s, "decode_s": delivered.decode_s, "batch": delivered.together,
            "device": device,
        }  # fmt: skip
        row |= {key: values[index] for key, values in report.items()}
        rows.append(row | scores[index])
    return rows
