"""The table of classes behind an mIoU: each system's IoU of every class at every SNR, with counts of pixels and
pictures.

`bench.report.tables` calls it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.data.voc import VOC_CLASSES
from bench.report import system_looks
from bench.results.reader import Run
from bench.util.markdown import cell, markdown_table

CLASS_COLUMNS = (
    "figure", "system", "variant", "dataset", "channel", "bits_target", "uses_target", "snr_db", "class", "name", "iou",
    "intersection", "predicted", "labelled", "n_images", "n_outage",
)  # fmt: skip


def class_table(run: Run, figure: dict) -> pd.DataFrame:
    """One row per system, SNR and class, with CLASS_COLUMNS. Pixels are summed over pictures and repetitions, without
    void.

    n_images: pictures whose truth contains the class.
    iou: empty if the class neither occurs nor is predicted.
    n_outage: pictures of this point that were not decoded. They count as if nothing was found.
    """
    samples = run.whole_samples_of(figure)
    key = ["cell_id", "image_id", "snr_db", "rep"]
    own = run.confusion.merge(samples[[*key, "status", "bits_target", "uses_target"]], on=key)
    lost = samples[samples["status"] == "outage"].groupby(["system", "variant", "snr_db"])["image_id"].nunique()
    point = ["system", "variant", "dataset", "channel", "bits_target", "uses_target", "snr_db"]
    # dropna: one of the two budgets is empty
    pixels = own.groupby([*point, "class"], as_index=False, dropna=False)[
        ["intersection", "predicted", "labelled", "union"]
    ].sum()
    labelled = own[own["labelled"] > 0].groupby([*point, "class"], dropna=False)
    shown = labelled["image_id"].nunique().rename("n_images").reset_index()
    table = pixels.merge(shown, on=[*point, "class"], how="left").fillna({"n_images": 0})
    table["iou"] = np.where(
        table["union"] > 0, table["intersection"] / table["union"].where(table["union"] > 0), np.nan
    )
    table["figure"] = figure["id"]
    table["name"] = [VOC_CLASSES[int(label)] for label in table["class"]]
    table["n_outage"] = [lost.get((row.system, row.variant, row.snr_db), 0) for row in table.itertuples()]
    places = system_looks.figure_looks(figure, run.system_facts).places(table["system"])
    table = table.assign(_place=table["system"].map(places)).sort_values(
        ["_place", "variant", "snr_db", "class"], kind="stable"
    )
    return table[list(CLASS_COLUMNS)].reset_index(drop=True)


def class_markdown(table: pd.DataFrame, title: str, looks: system_looks.Looks | None = None) -> str:
    """IoU in per cent, classes by systems, each system at its highest SNR, and the mean over classes."""
    systems = [own for _, own in table.groupby(["system", "variant"], sort=False)]
    systems = [own[own["snr_db"] == own["snr_db"].max()].set_index("class") for own in systems]
    looks = looks or system_looks.Looks()
    head = [f"{cell(looks.label(own['system'].iloc[0]))}, {own['snr_db'].iloc[0]:g} dB" for own in systems]
    rows = []
    for label in sorted(set(table["class"])):
        count = int(table.loc[table["class"] == label, "n_images"].max())
        cells = [
            f"{100 * own.loc[label, 'iou']:.1f}" if label in own.index and own.loc[label, "iou"] >= 0 else ""
            for own in systems
        ]
        rows.append((VOC_CLASSES[int(label)], str(count), *cells))
    rows.append(("**mean**", "", *(f"**{100 * own['iou'].mean():.1f}**" for own in systems)))
    lost = [
        f"{name}: {int(own['n_outage'].iloc[0])} pictures did not decode."
        for name, own in zip(head, systems)
        if own["n_outage"].iloc[0]
    ]
    caption = f"**{cell(title)}**: IoU of each class in per cent, over the whole data set."
    text = markdown_table(("Class", "Pictures", *head), "lr" + "r" * len(head), rows)
    return f"{caption}\n\n{text}\n" + "".join(f"\n{line}\n" for line in lost)
