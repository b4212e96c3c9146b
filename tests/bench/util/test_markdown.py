"""Tests of the function that writes tables in Markdown."""

import pytest

from bench.util.markdown import markdown_table


def test_a_table_is_written_as_markdown_readers_expect():
    text = markdown_table(("System", "0 dB"), "lr", [("GenSC", "30.1"), ("WITT", "")])
    assert text == "| System | 0 dB |\n|---|---:|\n| GenSC | 30.1 |\n| WITT |  |"


def test_a_table_without_rows_has_its_head():
    assert markdown_table(("A",), "l", []) == "| A |\n|---|"


@pytest.mark.parametrize(("align", "row"), [("l", ("x", "y")), ("lr", ("x",)), ("lr", ("x", "y", "z"))])
def test_a_row_of_another_length_is_refused(align, row):
    with pytest.raises(ValueError, match="2 columns"):
        markdown_table(("A", "B"), align, [row])
