"""Tests that every public function that takes or returns tensors or arrays states their shapes in its docstring.

ruff checks that every public module, class and function has a docstring at all (rules D1 in pyproject.toml).
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for package in ("systems", "baselines", "bench")
    for path in (ROOT / package).rglob("*.py")
    if "templates" not in path.parts and "/." not in str(path)
)
ARRAY = re.compile(r"\b(Tensor|ndarray|NDArray)\b")
#: One dimension: a name, a number, "...", or a short expression such as H/16, k + 1, 16 rows.
_TERM = r"[\w.^]+(?: [\w^]+)?"
_DIMENSION = rf"(?:\.\.\.|{_TERM}(?: ?[-+*/] ?{_TERM})*)"
#: A tuple of dimensions such as (B, 3, H, W), (B,) or (..., m), or words that say how the shapes follow.
SHAPE = re.compile(rf"\({_DIMENSION},(?: {_DIMENSION}(?:, {_DIMENSION})*)?\)|\bscalars?\b|\b[Ss]hapes?\b")
REFERENCE = re.compile(r"See `(?:\w+\.)*?(\w+\.\w+|\w+)`")


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__call__"


def documented(tree: ast.Module):
    """(qualified name, node) of each public class, function and method of a module."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and is_public(node.name):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and is_public(inner.name):
                        yield f"{node.name}.{inner.name}", inner


def has_arrays(function: ast.FunctionDef) -> bool:
    """Whether a parameter or the result is annotated as a tensor or an array, alone or inside another type."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    hints = [parameter.annotation for parameter in parameters if parameter is not None] + [function.returns]
    return any(ARRAY.search(ast.unparse(hint)) for hint in hints if hint is not None)


@cache
def module(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def all_documented() -> dict[str, list[str]]:
    """Docstrings by qualified name, over all files, since a method may refer to the one that it implements."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for name, node in documented(module(path)):
            found.setdefault(name, []).append(ast.get_docstring(node) or "")
    return found


def states_shapes(docstring: str) -> bool:
    """Whether a docstring states shapes, or refers to a documented function that does."""
    if SHAPE.search(docstring):
        return True
    names = REFERENCE.findall(docstring)
    return any(SHAPE.search(other) for name in names for other in all_documented().get(name, ()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: ".".join(path.relative_to(ROOT).with_suffix("").parts))
def test_functions_of_tensors_state_shapes(path):
    silent = [
        name
        for name, node in documented(module(path))
        if isinstance(node, ast.FunctionDef) and has_arrays(node) and not states_shapes(ast.get_docstring(node) or "")
    ]
    assert not silent, f"{path.relative_to(ROOT)}: no shape in the docstring of {', '.join(silent)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: ".".join(path.relative_to(ROOT).with_suffix("").parts))
def test_fields_of_tensors_state_shapes(path):
    """A class with annotated fields of tensors says their shapes in its docstring or beside the field."""
    lines = path.read_text(encoding="utf-8").splitlines()
    silent = []
    for name, node in documented(module(path)):
        if not isinstance(node, ast.ClassDef) or SHAPE.search(ast.get_docstring(node) or ""):
            continue
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
        for field in fields:
            comment = lines[field.lineno - 1].partition("#")[2]
            if ARRAY.search(ast.unparse(field.annotation)) and is_public(field.target.id) and not SHAPE.search(comment):
                silent.append(f"{name}.{field.target.id}")
    assert not silent, f"{path.relative_to(ROOT)}: no shape is stated for {', '.join(silent)}"


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("Pictures (B, 3, H, W) in [0, 1].", True),
        ("Power (B,).", True),
        ("(..., m * bits_per_use) -> symbols", True),
        ("maps (B, H/16, W/16, 2 bands + 1)", True),
        ("The mean, a scalar.", True),
        ("The picture (see the paper, Fig. 5, for more of this).", False),
        ("Encode the pictures.", False),
    ],
)
def test_what_counts_as_a_shape(text, stated):
    assert bool(SHAPE.search(text)) == stated
