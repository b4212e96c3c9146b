"""The source code that a row depends on, found by following imports. Nothing is imported.

`bench.spec.identity`, the plan and the manifest call it. The code of a module counts as it is parsed, so comments,
docstrings and layout do not change the hash. Packages that only list names (`systems`, `baselines`, the registry
and the catalogue) do not count, but the modules that they lead to do. Where the imports of a module cannot be told from
its text (`_unclear`), all code counts that it might import.
"""

from __future__ import annotations

import ast
import codecs
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.util.package_files import spec_of
from systems.errors import UserError

_OURS = ("systems", "baselines")
_TRUSTED = ("systems.", "baselines.", "bench.")
_LISTS = ("systems", "baselines", "systems.registry", "baselines.catalogue")  # they only list names
_MEASURE = "bench.measure"
_MEASURE_START = "bench.measure.point"
_MEASURE_WITHOUT = "bench.measure.apart"  # it decides where a system runs, not what is measured
_CODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # as Python finds it (PEP 263)
_UTF_8 = re.compile(rb"utf[-_]?8", re.IGNORECASE)  # Python decodes it itself; a package can register all other codecs
_BUILDERS = frozenset(("exec", "eval", "compile", "__builtins__"))  # a text that they run may import anything
_PLACE = frozenset(("__package__", "__spec__", "__path__"))  # what a module's own imports start from


def source_digest(module: str) -> str:
    """First 16 hex digits of the sha256 of all code that the system in `module` imports, directly or not.

    Modules of systems/, of baselines/ and of the module's own top package count.
    """
    return _digest_of(imported(module, (*_OURS, module.partition(".")[0])))


@cache
def measure_digest() -> str:
    """The same for the code that measures: channel, audit, seeds, metrics. The data files of
    `bench/measure` count too.
    """
    digest = hashlib.sha256(_digest_of(measure_files()).encode())
    folder = _locate(_MEASURE)
    assert folder is not None
    for file in sorted(folder.parent.rglob("*")):
        if file.is_file() and file.suffix not in (".py", ".md") and "__pycache__" not in file.parts:
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def measure_files() -> dict[str, Path]:
    """The modules that decide a row beside the system's: `bench/measure`, and what it uses of
    systems/ and baselines/.
    """
    found = imported(_MEASURE_START, (_MEASURE, *_OURS))
    return {name: file for name, file in found.items() if not name.startswith(_MEASURE_WITHOUT)}


def imported(module: str, within: tuple[str, ...]) -> dict[str, Path]:
    """The modules that `module` imports, itself included, sorted by name. Only those inside the packages `within`.

    Imports inside functions count. Imports for type checkers only do not, in our own code: of a third party's, they
    count too, because any code can set the name TYPE_CHECKING. If the imports of one of them are unclear, all files of
    `within` count too, by their paths.
    """
    found: dict[str, Path] = {}
    pending = [module]
    unclear = False
    while pending:
        name = pending.pop()
        if name in found or not any(name == top or name.startswith(top + ".") for top in within):
            continue
        file = _locate(name)
        if file is None:
            continue
        if name not in _LISTS:
            found[name] = file
        parent = name.rpartition(".")[0]
        pending += [parent] if parent else []
        if name not in _LISTS:
            data = file.read_bytes()
            pending += _imports(name, file, data)
            unclear = unclear or _unclear(data)
    if unclear:
        for top in within:
            found |= _all_files(top)
    return dict(sorted(found.items()))


def code_digest(data: bytes) -> str:
    """sha256 of a module's code as it is parsed, without docstrings. If it cannot be read, sha256 of its bytes."""
    return _parsed(data)[0]


@cache
def _parsed(data: bytes) -> tuple[str, ast.Module | None]:
    """The digest of a module's code, and its syntax tree without docstrings. The tree is None if the module cannot be
    read as a system's process reads it: it is no Python here, or a codec of its package may decode it there.

    Raises UserError if Python's parser cannot hold it: without its imports, the identity would miss code.
    """
    try:
        if _is_utf_8(data):
            return _digest_and_tree(ast.parse(data))
    except (SyntaxError, ValueError):
        pass
    except (RecursionError, MemoryError):
        raise UserError(
            "a module of a system has an expression that is nested too deeply to be read; write it in parts"
        ) from None
    return hashlib.sha256(data).hexdigest(), None


def _is_utf_8(data: bytes) -> bool:
    """Whether no coding line names another codec. Python looks for it in the first two lines."""
    named = (_CODING.match(line) for line in data.removeprefix(codecs.BOM_UTF8).splitlines()[:2])
    return all(_UTF_8.fullmatch(one[1]) for one in named if one)


def _tree(data: bytes) -> ast.Module:
    """The syntax tree of a module, empty if it cannot be read."""
    return _parsed(data)[1] or ast.Module([], [])


@cache
def _unclear(data: bytes) -> bool:
    """Whether the text of a module does not tell what it imports: it cannot be read, may move its own imports, or runs
    another text.
    """
    tree = _parsed(data)[1]
    return tree is None or any(_moves(node) or _runs_text(node) for node in ast.walk(tree))


def _runs_text(node: ast.AST) -> bool:
    """Whether a node names a function that runs a text as code, or the module in which it stands."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return "builtins" in (getattr(node, "module", None), *(alias.name for alias in node.names))
    return isinstance(node, ast.Name) and node.id in _BUILDERS


def _moves(node: ast.AST) -> bool:
    """Whether a node may change the place from which imports start.

    CPython 3.11 to 3.14 resolve a relative import by `__package__`, without it by `__spec__`, and without both by
    `__name__`. So `__package__` may only be read. The other two of `_PLACE` hold a list of folders that can change in
    place, so no mention of them is clear. Functions are often given another `__name__`, so that name counts as a
    variable alone: a call of `import_module` may read it.
    """
    if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        return _called(node) in _PLACE - {"__package__"}
    names = {value for _, value in ast.iter_fields(node) if isinstance(value, str)}
    return bool(names & _PLACE) or ("__name__" in names and not isinstance(node, (ast.Attribute, ast.Constant)))


def _digest_and_tree(tree: ast.Module) -> tuple[str, ast.Module]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "backslashreplace")).hexdigest(), tree


def _digest_of(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, file in files.items():
        digest.update(f"{name} {code_digest(file.read_bytes())}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:16]


def _locate(module: str) -> Path | None:
    """The file of a module. None if it has none (a compiled module). Only namespaces are imported."""
    top, *rest = module.split(".")
    folders = _top(top)
    if not rest:
        return next((file for file in folders if file.is_file()), None)
    for folder in folders:
        base = (folder.parent if folder.is_file() else folder).joinpath(*rest)
        for file in (base / "__init__.py", base.with_name(base.name + ".py")):
            if file.is_file():
                return file
    return None


def _top(package: str) -> list[Path]:
    """The `__init__.py` of a top package, the file of a top module, or the folders of a namespace."""
    spec = spec_of(package)
    if spec is None:
        return []
    if spec.origin and spec.origin.endswith(".py"):
        return [Path(spec.origin)]
    return [Path(folder) for folder in spec.submodule_search_locations or ()]


def _imports(module: str, file: Path, data: bytes) -> Iterator[str]:
    """Names of the modules that a file imports. data: its content."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in _importing(data, module.startswith(_TRUSTED)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            base = ".".join(filter(None, (_above(package, node.level), base)))
            yield from _with_parents(base)
            for alias in node.names:
                yield from _named_in(base, alias.name)
        else:
            yield from _called_for(node, package)


def _called_for(call: ast.Call, package: str) -> Iterator[str]:
    """Names of the modules that a call of `import_module` or `__import__` imports, by place or by keyword, where they
    are texts. package: of the module that calls.
    """
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    places = ("name", "package") if _called(call.func) == "import_module" else ("name", "", "", "fromlist", "level")
    given |= dict(zip(places, call.args, strict=False))
    name, within, level = (_constant(given.get(key)) for key in ("name", "package", "level"))
    if not isinstance(name, str):
        return
    dots = level if isinstance(level, int) else len(name) - len(name.lstrip("."))
    base = ".".join(filter(None, (_above(within if isinstance(within, str) else package, dots), name.lstrip("."))))
    yield from _with_parents(base)
    parts = given.get("fromlist")
    for part in parts.elts if isinstance(parts, (ast.List, ast.Tuple)) else ():
        yield from _named_in(base, str(_constant(part)))


def _named_in(package: str, name: str) -> Iterator[str]:
    """The modules that `from package import name` may import. A star imports those that the package's `__all__` names,
    which may be computed: so all modules in its folders count.
    """
    if name != "*":
        yield f"{package}.{name}"
    elif package not in _LISTS:
        for folder in _folders(package):
            yield from (f"{package}.{module}" for module in _modules_below(folder) if module)
    yield from _forwarded(package, name)


def _folders(package: str) -> list[Path]:
    """The folders in which Python looks for the modules of a package. A namespace may have several."""
    top, *rest = package.split(".")
    bases = [(one.parent if one.name == "__init__.py" else one).joinpath(*rest) for one in _top(top)]
    return [base for base in bases if base.is_dir()]


def _modules_below(folder: Path) -> Iterator[str]:
    """The names of the modules in a folder and below it, as its package would import them."""
    for file in sorted(folder.rglob("*.py")):
        *parts, last = file.relative_to(folder).with_suffix("").parts
        yield ".".join(parts if last == "__init__" else [*parts, last])


def _all_files(package: str) -> dict[str, Path]:
    """All Python files of a package, by their paths: a module may be found there under any name."""
    return {
        f"{package}/{number}/{file.relative_to(folder).as_posix()}": file
        for number, folder in enumerate(_folders(package))
        for file in sorted(folder.rglob("*.py"))
        if file.is_file()
    }


def _constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


@cache
def _importing(data: bytes, ours: bool) -> tuple[ast.Import | ast.ImportFrom | ast.Call, ...]:
    """The nodes that import, of a module. They are kept, because most systems import the same modules."""
    return tuple(
        node
        for node in (_walk if ours else ast.walk)(_tree(data))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        or (isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"))
    )


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree, except the bodies of `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _called(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _walk(other)
            continue
        yield from _walk(child)


def _called(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _above(package: str, dots: int) -> str:
    """The package that a relative import with so many dots starts from. "" for none."""
    parts = package.split(".")
    return ".".join(parts[: max(0, len(parts) - dots + 1)]) if dots else ""


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def _forwarded(package: str, name: str) -> Iterator[str]:
    """The module behind a name in a package that only lists names: `from systems import System` leads to
    `systems.interface`. A star leads to all of them.
    """
    if package not in _LISTS:
        return
    file = _locate(package)
    if file is None:
        return
    for node in _listing(file.read_bytes()):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and name in (key.value, "*") and isinstance(value, ast.Constant):
                    yield f"{package}.{value.value!s}"
        elif isinstance(node, ast.ImportFrom) and any(
            name in (alias.asname or alias.name, "*") for alias in node.names
        ):
            yield node.module or ""


@cache
def _listing(data: bytes) -> tuple[ast.Dict | ast.ImportFrom, ...]:
    """The nodes that list names, of a package that only does so. They are kept, as in `_importing`."""
    return tuple(node for node in ast.walk(_tree(data)) if isinstance(node, (ast.Dict, ast.ImportFrom)))
