"""Makes the README's screenshots of the HTML report from a run:  python tests/bench/report/screenshots.py RUN [OUT]

RUN is a run's folder; OUT is the folder for the screenshots (default: figures/ in RUN). The script writes report.png
(the curves with their table) and, where the run's folder holds pictures, report-pictures.png (two systems side by
side).
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parents[3]), str(Path(__file__).resolve().parent)]
from browser import BROWSER, DRIVER, MISSING, open_browser, settle  # noqa: E402

from bench.report.html import write_report  # noqa: E402
from bench.results.reader import Run  # noqa: E402

SIZE = (1200, 760)
MOST_BYTES = 150_000


def shoot(folder: Path, out: Path) -> list[Path]:
    """Write the screenshots of the run in `folder` to `out`; returns their paths."""
    run, made = Run.open(folder), []
    with tempfile.TemporaryDirectory() as scratch:
        page = write_report([run], Path(scratch) / "report.html", 24)
        driver = open_browser(Path(scratch) / "profile", Path(scratch), *SIZE)
        try:
            out.mkdir(parents=True, exist_ok=True)
            _show(driver, page, "curves", t="light")
            made.append(_save(driver, out / "report.png"))
            items = driver.execute_script(
                "return JSON.parse(document.getElementById('data').textContent).pictures.items"
            )
            if items:
                _show(driver, page, "pictures", t="light", **_pair(items[0]))
                made.append(_save(driver, out / "report-pictures.png"))
        finally:
            driver.quit()
    return made


def _pair(item: dict) -> dict[str, str]:
    """Choose two systems: GenSC (or else the first system), and another one, at the lowest SNR
    at which both delivered.
    """
    there = {(output["system"], output["snr"]) for output in item["outputs"] if not output["lost"]}
    systems = list(dict.fromkeys(output["system"] for output in item["outputs"]))
    left = "gensc" if "gensc" in systems else systems[0]
    for right in (*(name for name in ("deepjscc", "witt") if name in systems), *systems[::-1]):
        both = sorted(snr for name, snr in there if name == right and (left, snr) in there)
        if right != left and both:
            return {"l": left, "r": right, "s": f"{both[0]:g}"}
    return {}


def _show(driver, page: Path, section: str, **view: str) -> None:
    driver.get("about:blank")
    driver.get(f"{page.as_uri()}#?{urlencode(view)}")
    settle(driver)
    driver.execute_script(
        "document.getElementById(arguments[0]).scrollIntoView(); document.activeElement.blur()", section
    )
    settle(driver)


def _save(driver, path: Path) -> Path:
    """Save the window as PNG, with as many colours as fit into MOST_BYTES."""
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    for colours in (256, 128, 64, 32):
        file = io.BytesIO()
        shot.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    path.write_bytes(file.getvalue())
    return path


if __name__ == "__main__":
    if not (BROWSER and DRIVER):
        sys.exit(MISSING)
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    for written in shoot(target, Path(sys.argv[2]) if len(sys.argv) == 3 else target / "figures"):
        print(written, f"{written.stat().st_size} bytes")
