"""The shape of the house: imports point one way, files and functions stay small."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hf_chts"
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]
ROOMS = [
    {"cli", "__main__", "display"},
    {"comparison"},
    {"report"},
    {"inspection"},
    {"translation"},
    {"trainer", "monitor"},
    {"checkpoint"},
    {"compaction"},
    {"patching"},
    {"topology"},
    {"training"},
    {"network"},
    {"engine"},
    {"methods"},
    {"layers", "rules"},
    {"config", "safe_saving"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
ALONE = {"analysis"}
TRANSFORMERS = {
    "network",
    "patching",
    "checkpoint",
    "trainer",
    "training",
    "monitor",
    "inspection",
    "translation",
    "cli",
}
every_file = pytest.mark.parametrize("path", FILES, ids=IDS)


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(PACKAGE.parent).parts[: -node.level or None]
            parts = [*(here if node.level else ()), *([node.module] if node.module else ())]
            yield from (".".join([*parts, alias.name]) for alias in node.names)


@every_file
def test_imports_point_one_way(path):
    if room(path) == "__init__":
        return
    own = [name.split(".") for name in imported(path) if name.split(".")[0] == "hf_chts"]
    targets = {parts[1] for parts in own if parts[1] != "__version__"} - {room(path)}
    if room(path) in ALONE:
        assert not targets
        return
    assert room(path) in LEVEL, f"give {room(path)} its place in ROOMS"
    for target in targets - ALONE:
        assert LEVEL[target] >= LEVEL[room(path)], f"{room(path)} imports {target}"
    assert not (room(path) == "layers" and "rules" in targets)
    inside = {".".join(parts[2:]) for parts in own if parts[1] == "layers"}
    kernels = all(name.startswith("kernels.") for name in inside)
    assert room(path) != "rules" or kernels, "rules know of layers their kernels only"


@every_file
def test_transformers_stays_in_its_rooms(path):
    if any(name.split(".")[0] == "transformers" for name in imported(path)):
        assert room(path) in TRANSFORMERS


@every_file
def test_rules_import_torch_alone(path):
    if room(path) == "rules":
        foreign = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)
        assert foreign <= {"torch", "jaxtyping", "numpy", "hf_chts"}


def _is_public(node):
    return not node.name.startswith("_")


def _definitions(tree, kinds):
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@every_file
def test_files_and_functions_stay_small(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    lines = [line.strip() for line in source.splitlines()]
    for node in _definitions(ast.parse(source), FUNCTIONS):
        body = node.body[ast.get_docstring(node) is not None :]
        span = lines[body[0].lineno - 1 : node.end_lineno] if body else []
        code = [line for line in span if line and not line.startswith("#")]
        assert len(code) <= 40, f"{node.name} has {len(code)} lines"


@every_file
def test_everything_public_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    holders = [tree, *(n for n in _definitions(tree, ast.ClassDef) if _is_public(n))]
    for holder in holders:
        for node in holder.body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and _is_public(node):
                assert ast.get_docstring(node), f"{node.name} has no docstring"


@every_file
def test_no_drawer_for_odds_and_ends(path):
    assert path.stem not in {"utils", "helpers", "base", "common", "misc"}
