"""The folder of a run as tables. Figures, comparison and claims read them. `bench.results.schema` describes the
columns.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.results.csv_tables import read_frame
from bench.results.manifest import NAME, read_manifest
from bench.results.schema import TABLES
from bench.results.trainings import checked
from bench.util.files import has_control, read_bytes, shown
from systems.errors import UserError
from systems.interface import NUM_CLASSES

if TYPE_CHECKING:
    from PIL import Image

#: The columns of the budget. One of them is not empty.
BUDGETS = ["cbr_target", "bits_target", "uses_target"]
#: Rows that agree in these columns are comparable, and may share axes.
POINT = ["task", "dataset", "channel", *BUDGETS]
PAPER_FIGURES = ("fig4", "fig5", "fig7")
_SNR_DECIMALS = 6  # SNRs are rounded to this many decimals: 0.30000000000000004 dB is 0.3 dB


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run. A table is read when it is first needed. A missing table is empty.

    shown_as: a name in place of its own, where it stands beside other runs (`told_apart`).
    """

    directory: Path
    manifest: dict[str, Any] = field(repr=False)
    shown_as: str = ""

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """Open the run in a folder. Raises UserError if it is no run."""
        directory = Path(directory)
        manifest = read_manifest(directory)
        if manifest is None:
            raise UserError(f"{shown(directory)} is not a run: it has no {NAME}; name a folder that `run` wrote")
        return cls(directory, manifest)

    @cached_property
    def seeds(self) -> tuple[Run, ...]:
        """The runs in the folder `seeds`: the same systems, each run with weights of trainings with other seeds
        (`bench.results.trainings`). They have the rows of the run's own points alone. Raises UserError if they cannot
        stand beside the run.
        """
        found = tuple(Run.open(manifest.parent) for manifest in sorted(self.directory.glob(f"seeds/*/{NAME}")))
        return checked(self, found, POINT) if found else ()

    @property
    def name(self) -> str:
        """The name of the run: that of its folder."""
        return self.shown_as or shown(self.manifest.get("run") or self.directory.resolve().name)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per picture, operating point and repetition."""
        return self._table("samples")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per operating point and metric."""
        return self._table("summary")

    @cached_property
    def lacking(self) -> pd.DataFrame:
        """The points of summary.csv that have no mean, one row for each."""
        return points_without_mean(self.summary)

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Pixel counts of each picture and class."""
        return self._table("confusion")

    @cached_property
    def failures(self) -> pd.DataFrame:
        """The cells that failed when they were last tried."""
        return self._table("failures")

    @cached_property
    def pictures(self) -> pd.DataFrame:
        """The content of pictures.csv: one row per file under pictures/."""
        return self._table("pictures")

    def _table(self, name: str) -> pd.DataFrame:
        return _checked(self.directory / f"{name}.csv", read_frame(self.directory / f"{name}.csv", TABLES[name]))

    @cached_property
    def figures(self) -> list[dict[str, Any]]:
        """The figures of the run, as `Figure.as_dict` gave them. Keys that a manifest may lack are filled in."""
        return [_figure(values) for values in self.manifest["config"]["figures"]]

    @property
    def ended(self) -> bool:
        """Whether its last command ended, so that the salt of the noise is published. Runs of before there were salts
        have.
        """
        return self.manifest.get("salt", "") is not None

    @property
    def limited(self) -> bool:
        """Whether the run was made with --limit: it is then a trial, not a result."""
        return bool(self.manifest.get("limited"))

    @cached_property
    def system_facts(self) -> dict[str, dict[str, Any]]:
        """The description that each system gave of itself (`System.describe`), by name. Values that cannot be used are
        left out.
        """
        return {name: _facts(facts) for name, facts in self.manifest.get("systems", {}).items()}

    def picture_hashes(self, dataset: str) -> dict[str, str]:
        """sha256 of each picture's file (and of its mask), by the picture's name. {} if the manifest has none."""
        files = self.manifest.get("datasets", {}).get(dataset, {}).get("files", {})
        return {image_id: " ".join(f"{kind} {own[kind]}" for kind in sorted(own)) for image_id, own in files.items()}

    def shows_a_paper_figure(self) -> bool:
        """Whether one of the run's figures is the paper's, so that the paper's statements can be checked."""
        return any(figure["id"] in PAPER_FIGURES for figure in self.figures)

    def is_demonstration(self, dataset: str) -> bool:
        """Whether a data set only demonstrates the bench and is too small to measure anything."""
        return bool(self.manifest.get("datasets", {}).get(dataset, {}).get("demonstration"))

    def summary_of(self, figure: dict) -> pd.DataFrame:
        """The rows of summary.csv for a figure."""
        return belonging(self.summary, figure)

    def samples_of(self, figure: dict) -> pd.DataFrame:
        """The rows of samples.csv for a figure."""
        return belonging(self.samples, figure)

    def whole_samples_of(self, figure: dict) -> pd.DataFrame:
        """The same without the points at which a cell failed: they have no mean in summary.csv either."""
        point = ["system", "variant", "snr_db"]
        whole = self.summary_of(figure).dropna(subset=["mean"])[point].drop_duplicates()
        return self.samples_of(figure).merge(whole, on=point)

    def failed_outputs(self, figure: dict, image_id: str) -> set[tuple[str, float]]:
        """(system, SNR) of the cells of a figure that failed and hold a picture: it has no output there."""
        rows = belonging(self.failures.assign(task=figure["task"]), figure)
        here = [f" {image_id} " in f" {images} " for images in rows["images"]]
        return set(zip(rows.loc[here, "system"], rows.loc[here, "snr_db"].astype(float), strict=True))

    def cut_to(self, figure: dict) -> Run:
        """The run with the samples of one figure only."""
        part = replace(self)
        kept = {name: getattr(self, name) for name in ("confusion", "summary", "failures", "lacking", "seeds")}
        part.__dict__.update(kept, samples=self.samples_of(figure))
        return part

    def pictures_of(self, figure: dict) -> pd.DataFrame:
        """The rows of pictures.csv for a figure: its outputs, and the originals and true masks of its data set."""
        rows = self.pictures
        sources = rows[(rows["system"] == "") & (rows["dataset"] == figure["dataset"])]
        outputs = belonging(rows[rows["system"] != ""], figure)
        outputs = outputs[outputs["snr_db"].isin(figure["pictures"]["snr_db"])]
        sources = sources[sources["image_id"].isin(outputs["image_id"])]
        return pd.concat([sources, outputs]).drop_duplicates("file") if len(outputs) else outputs

    def picture(self, file: str) -> np.ndarray:
        """A stored picture, uint8 (H, W, 3), or class ids (H, W) from an indexed PNG.

        Raises UserError if it cannot be read, or if its path leads out of the run.
        """
        with self.opened_picture(file) as picture:
            return np.asarray(picture if picture.mode in ("P", "L") else picture.convert("RGB"))

    @contextlib.contextmanager
    def opened_picture(self, file: str) -> Iterator[Image.Image]:
        """A stored picture as a Pillow picture that is loaded. UserError where it lies outside the run or is no PNG:
        a run may come from somebody else, and Pillow would start other programs for some formats."""
        from PIL import Image

        inside = PurePosixPath(file)
        if inside.is_absolute() or ".." in inside.parts or "\\" in file or "\0" in file:
            raise UserError(f"{self.directory / 'pictures.csv'}: {shown(file)} lies outside the run; repeat the run")
        path = self.directory / file
        try:
            if not path.resolve().is_relative_to(self.directory.resolve()):
                raise UserError(f"{shown(path)} is a link that leads out of the run; repeat the run")
            with Image.open(io.BytesIO(read_bytes(path)), formats=["PNG"]) as picture:
                picture.load()
                yield picture
        except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
            raise UserError(f"{shown(path)}: cannot read the picture ({shown(error)}); repeat the run") from None


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs with different names: one that has the name of a run before it is "name (2)". A colon becomes "_", so
    that `name:system` names one system of one run.
    """
    if len(runs) < 2:
        return list(runs)
    own = [run.name.replace(":", "_") for run in runs]
    found: list[Run] = []
    for place, (run, name) in enumerate(zip(runs, own, strict=True)):
        if name in own[:place]:
            taken = {*own, *(other.name for other in found)}
            name = next(more for number in count(2) if (more := f"{name} ({number})") not in taken)
        found.append(replace(run, shown_as=name))
    return found


def points_without_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """The points, one row for each, that have no mean in `rows` of summary.csv, because cells failed or were never
    computed.
    """
    points = rows.groupby(["system", "variant", *POINT, "snr_db"], dropna=False, as_index=False)["mean"].count()
    return points[points["mean"] == 0]


def belonging(rows: pd.DataFrame, figure: dict[str, Any]) -> pd.DataFrame:
    """The rows of a table that a figure shows: those with its task, data set, channel, budget, systems and SNRs."""
    chosen = rows["task"].eq(figure["task"]) & rows["dataset"].eq(figure["dataset"])
    chosen &= rows["channel"].eq(figure["channel"]) & rows["system"].isin(figure["systems"])
    chosen &= rows["snr_db"].isin(figure["snr_db"])
    return rows[chosen & at_budget(rows, figure)]


def at_budget(rows: pd.DataFrame, figure: Mapping[str, Any]) -> pd.Series:
    """Which rows of a table have the budget of a figure."""
    budgets = [("cbr_target", "cbr"), ("bits_target", "bits")]
    if rows["uses_target"].notna().any():  # it is empty in tables of earlier versions, also for a budget in uses
        budgets.append(("uses_target", "uses"))
    chosen = pd.Series(True, rows.index)
    for column, key in budgets:
        if figure.get(key) is None:
            chosen &= rows[column].isna()
        else:
            chosen &= np.isclose(rows[column].to_numpy(float), figure[key], rtol=1e-9, atol=0)
    return chosen


def _checked(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table, after a check that its values fit their columns. SNRs are rounded. Raises
    UserError for wrong values.
    """
    for column in (column for columns in TABLES.values() for column in columns if column.choices):
        if column.name in table:
            odd = set(table[column.name].unique()) - {*column.choices, ""}
            if odd:
                raise UserError(f"{path}: {column.name} is {shown(sorted(odd)[0], 60)!r}, not one of "
                                f"{', '.join(column.choices)}; repeat the run")  # fmt: skip
    for name in ("system", "variant", "dataset", "channel"):  # commands print them
        for text in table[name].unique() if name in table else ():
            if has_control(str(text)):
                raise UserError(f"{path}: {name} is {text!a}, which holds a control character; repeat the run")
    for name in table:
        if table[name].dtype == float and np.isinf(table[name].to_numpy()).any():
            raise UserError(f"{path}: {name} holds an infinite number; repeat the run")
    if "class" in table:
        classes = table["class"].to_numpy()
        if not np.isin(classes, np.arange(NUM_CLASSES)).all():
            raise UserError(f"{path}: class holds a number outside 0 to {NUM_CLASSES - 1}; repeat the run")
    if "snr_db" in table:
        table["snr_db"] = table["snr_db"].round(_SNR_DECIMALS) + 0.0
    return table


def rounded_snr(snr_db: float) -> float:
    """An SNR as the tables of a `Run` and its figures hold it."""
    return round(float(snr_db), _SNR_DECIMALS) + 0.0


def _figure(values: dict[str, Any]) -> dict[str, Any]:
    shown_at = {"id": "", "snr_db": [], "limit": 3} | values.get("pictures", {})
    filled = {"title": values["id"], "reps": 1, "requirement": "", "budgets_of": "", "uses": None} | values
    return filled | {
        "snr_db": [rounded_snr(snr) for snr in values["snr_db"]],
        "pictures": shown_at | {"snr_db": [rounded_snr(snr) for snr in shown_at["snr_db"]]},
    }


LONGEST_FACT = 1000  # letters of a text in a fact, and of a fact in tables and on the page


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    """The description of a system, which may be a third party's, or from the sidecar of a stranger's weights. What
    tables show has the right type, also inside of it, or is left out. Long texts are cut, wherever they are.
    """
    kept = {key: _cut(value) for key, value in facts.items() if _depth_is_small(value)}
    for key in ("knowledge", "variant", "licence", "sha256"):
        if key in kept:
            kept[key] = "" if kept[key] is None else str(kept[key])[:LONGEST_FACT]
    if not is_count(kept.get("parameters")):
        kept["parameters"] = None
    seen = {key: _counts(kept.pop(key, None)) for key in ("images_seen", "seen_per_snr")}
    return {**kept, **{key: counts for key, counts in seen.items() if counts is not None}}


def _cut(value: Any) -> Any:
    """The value with its texts cut, at any depth."""
    if isinstance(value, dict):
        return {key[:LONGEST_FACT]: _cut(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_cut(part) for part in value]
    return value[:LONGEST_FACT] if isinstance(value, str) else value


def _counts(value: Any) -> Any:
    """A count, or the counts of a dict, at any depth. None for anything else."""
    if isinstance(value, dict):
        return {key: own for key, part in value.items() if (own := _counts(part)) is not None}
    return value if is_count(value) else None


def is_count(value: Any) -> bool:
    """Whether a value is a number that tables show as a count: NaN, infinity and numbers of 400 digits are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18


def _depth_is_small(value: Any, left: int = 20) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_depth_is_small(part, left - 1) for part in parts)
