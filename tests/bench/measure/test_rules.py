"""Every rule that a page states has a test, which exists; the README, the report and the list of rules agree."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from bench.measure.rules import RULES, markdown
from bench.report.html.build import _rules

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests" / "bench"
RULES_PAGE = (ROOT / "bench" / "measure" / "README.md").read_text(encoding="utf-8")


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the tests in a file below tests/bench."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table whose first line begins with `heading`."""
    lines = page[page.index(heading) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_tests_of_a_rule_exist(rule):
    assert rule.tests and len(rule.text) <= 120 and rule.text.endswith(".")
    for test in rule.tests:
        file, _, name = test.partition("::")
        assert name in names_in(file)


def test_the_readme_shows_the_rules_as_they_are():
    """Made with `python -c "from bench.measure.rules import markdown; print(markdown())"`."""
    assert f"\n{markdown()}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_report_shows_the_rules_as_they_are():
    shown = _rules()
    assert shown.count("<li>") == len(RULES)
    assert all(f"<b>{rule.name}.</b>" in shown and rule.tests[0].partition("::")[2] in shown for rule in RULES)


@pytest.mark.parametrize("row", rows(RULES_PAGE, "| rule | where | test |"), ids=lambda row: row[0][:50])
def test_each_rule_in_detail_names_tests_that_exist(row):
    """`file: test_a, test_b`, further tests of the same file, or `file` alone where all of its tests are meant."""
    _, _, cell = row
    named, file = 0, ""
    for code in re.findall(r"`([^`]+)`", cell):
        head, colon, tail = code.partition(": ")
        if colon or (TESTS / f"measure/{code}.py").is_file():
            file = head if "/" in head else f"measure/{head}"
        names = [name.strip() for name in (tail if colon else code if not code.endswith(file) else "").split(",")]
        for name in filter(None, names):
            if name == file.rpartition("/")[2]:
                continue
            assert name in names_in(f"{file}.py"), (file, name)
        assert names_in(f"{file}.py")
        named += 1
    assert named
