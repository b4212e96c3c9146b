"""Tests of the errors that every package shares."""

import pytest

from systems.errors import UserError, missing_package


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "--link x needs the package one; install it with `pip install one`"),
        (
            {"why": ImportError("no two"), "options": "--no-deps", "advice": "or use --link nr"},
            "--link x needs the package one (no two); install it with `pip install --no-deps one` (or use --link nr)",
        ),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(more, message):
    error = missing_package("--link x", "one", **more)
    assert isinstance(error, UserError) and str(error) == message
