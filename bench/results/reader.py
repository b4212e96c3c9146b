"""A run's folder as tables: what figures, comparison and claims read. Columns are those of `bench.results.schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from bench.results.manifest import NAME, read_manifest
from bench.results.schema import TABLES
from bench.results.tables import read_frame
from bench.util.files import shown
from systems.errors import UserError
from systems.interface import NUM_CLASSES

#: What makes an operating point comparable: rows that agree in these may share axes.
POINT = ["task", "dataset", "channel", "cbr_target", "bits_target"]
PAPER_FIGURES = ("fig4", "fig5", "fig7")
_SNR_DECIMALS = 6  # SNRs are told apart to so many: 0.30000000000000004 dB is 0.3 dB


@dataclass(frozen=True)
class Run:
    """A finished (or half-finished) run. Tables are read when first asked for; a missing one is empty."""

    directory: Path
    manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """UserError where the folder is not a run."""
        directory = Path(directory)
        manifest = read_manifest(directory)
        if manifest is None:
            raise UserError(f"{shown(directory)} is not a run: it has no {NAME}; name a folder that `run` wrote")
        return cls(directory, manifest)

    @property
    def name(self) -> str:
        """The run's id: the name of its folder."""
        return str(self.manifest.get("run") or self.directory.resolve().name)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row per image, operating point and repetition."""
        return self._table("samples")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per operating point and metric."""
        return self._table("summary")

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Pixel counts of each image and class."""
        return self._table("confusion")

    @cached_property
    def pictures(self) -> pd.DataFrame:
        """What each file under pictures/ shows."""
        return self._table("pictures")

    def _table(self, name: str) -> pd.DataFrame:
        return _checked(self.directory / f"{name}.csv", read_frame(self.directory / f"{name}.csv", TABLES[name]))

    @cached_property
    def experiments(self) -> list[dict[str, Any]]:
        """The figures of the run, as `Experiment.as_dict` gave them; keys that a manifest may lack are filled in."""
        return [_figure(values) for values in self.manifest["config"]["figures"]]

    @property
    def limited(self) -> bool:
        """True for a run with --limit: a trial, not a result."""
        return bool(self.manifest.get("limited"))

    @cached_property
    def system_facts(self) -> dict[str, dict[str, Any]]:
        """What each system said of itself (`System.describe`), by name; what cannot be read as such is left out."""
        return {name: _facts(facts) for name, facts in self.manifest.get("systems", {}).items()}

    def picture_hashes(self, dataset: str) -> dict[str, str]:
        """sha256 of each picture's file (and of its mask), by the picture's name; {} where the manifest has none."""
        files = self.manifest.get("datasets", {}).get(dataset, {}).get("files", {})
        return {image_id: " ".join(f"{kind} {own[kind]}" for kind in sorted(own)) for image_id, own in files.items()}

    def shows_a_paper_figure(self) -> bool:
        """True where some figure of the run is one of the paper's, so that its statements can be looked at."""
        return any(figure["id"] in PAPER_FIGURES for figure in self.experiments)

    def is_demonstration(self, dataset: str) -> bool:
        """True for a data set that shows how things work and measures nothing."""
        return bool(self.manifest.get("datasets", {}).get(dataset, {}).get("demonstration"))

    def summary_of(self, experiment: dict) -> pd.DataFrame:
        """Rows of summary.csv that belong to a figure."""
        return _belonging(self.summary, experiment)

    def samples_of(self, experiment: dict) -> pd.DataFrame:
        """Rows of samples.csv that belong to a figure."""
        return _belonging(self.samples, experiment)

    def cut_to(self, experiment: dict) -> Run:
        """The run as if it held this figure's samples alone."""
        part = Run(self.directory, self.manifest)
        part.__dict__.update(samples=self.samples_of(experiment), confusion=self.confusion)
        return part

    def pictures_of(self, experiment: dict) -> pd.DataFrame:
        """Rows of pictures.csv that belong to a figure: its outputs, and the originals and truths of its data set."""
        rows = self.pictures
        sources = rows[(rows["system"] == "") & (rows["dataset"] == experiment["dataset"])]
        outputs = _belonging(rows[rows["system"] != ""], experiment)
        outputs = outputs[outputs["snr_db"].isin(experiment["pictures"]["snr_db"])]
        sources = sources[sources["image_id"].isin(outputs["image_id"])]
        return pd.concat([sources, outputs]).drop_duplicates("file") if len(outputs) else outputs

    def picture(self, file: str) -> np.ndarray:
        """A stored picture as uint8 numpy: (H, W, 3), or (H, W) class ids where it is an indexed PNG."""
        from PIL import Image

        inside = PurePosixPath(file)
        if inside.is_absolute() or ".." in inside.parts or "\\" in file or "\0" in file:
            raise UserError(f"{self.directory / 'pictures.csv'}: {shown(file)} lies outside the run; repeat the run")
        path = self.directory / file
        try:
            with Image.open(path) as picture:
                return np.asarray(picture if picture.mode in ("P", "L") else picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{shown(path)}: cannot read the picture ({shown(error)}); repeat the run") from None


def _belonging(rows: pd.DataFrame, experiment: dict[str, Any]) -> pd.DataFrame:
    """The rows of a table that a figure shows: its task, data set, channel, budget, systems and SNRs."""
    chosen = rows["task"].eq(experiment["task"]) & rows["dataset"].eq(experiment["dataset"])
    chosen &= rows["channel"].eq(experiment["channel"]) & rows["system"].isin(experiment["systems"])
    chosen &= rows["snr_db"].isin(experiment["snr_db"])
    for column, key in (("cbr_target", "cbr"), ("bits_target", "bits")):
        if experiment[key] is None:
            chosen &= rows[column].isna()
        else:
            chosen &= np.isclose(rows[column].to_numpy(float), experiment[key], rtol=1e-9, atol=0)
    return rows[chosen]


def _checked(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """A table whose fields are what their columns hold; SNRs as `canonical` numbers. UserError for nonsense."""
    for column in (column for columns in TABLES.values() for column in columns if column.choices):
        if column.name in table:
            odd = set(table[column.name].unique()) - {*column.choices, ""}
            if odd:
                raise UserError(f"{path}: {column.name} is {shown(sorted(odd)[0], 60)!r}, not one of "
                                f"{', '.join(column.choices)}; repeat the run")  # fmt: skip
    for name in table:
        if table[name].dtype == float and np.isinf(table[name].to_numpy()).any():
            raise UserError(f"{path}: {name} holds an infinite number; repeat the run")
    if "class" in table:
        classes = table["class"].to_numpy()
        if not np.isin(classes, np.arange(NUM_CLASSES)).all():
            raise UserError(f"{path}: class holds a number that is none of 0 to {NUM_CLASSES - 1}; repeat the run")
    if "snr_db" in table:
        table["snr_db"] = table["snr_db"].round(_SNR_DECIMALS) + 0.0
    return table


def _figure(values: dict[str, Any]) -> dict[str, Any]:
    shown_at = {"id": "", "snr_db": [], "limit": 3} | values.get("pictures", {})
    filled = {"title": values["id"], "reps": 1, "requirement": "", "budgets_of": ""} | values
    return filled | {
        "snr_db": [round(float(snr), _SNR_DECIMALS) + 0.0 for snr in values["snr_db"]],
        "pictures": shown_at | {"snr_db": [round(float(snr), _SNR_DECIMALS) + 0.0 for snr in shown_at["snr_db"]]},
    }


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    """What a third party's system says may be anything; the keys that tables show are of one kind, or not there."""
    kept = {key: value for key, value in facts.items() if _depth_is_small(value)}
    for key in ("knowledge", "variant"):
        if key in kept:
            kept[key] = "" if kept[key] is None else str(kept[key])
    if not _is_count(kept.get("parameters")):
        kept["parameters"] = None
    seen = kept.get("images_seen")
    if not (_is_count(seen) or isinstance(seen, dict)):
        kept.pop("images_seen", None)
    return kept


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18


def _depth_is_small(value: Any, left: int = 20) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_depth_is_small(part, left - 1) for part in parts)
