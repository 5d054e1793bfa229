"""The project's own source files, as syntax trees, for tests of its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "supervisor" / "torc_supervise"


def files(*roots: str) -> list[Path]:
    """All Python files below these directories of the project."""
    found = [path for root in roots for path in (ROOT / root).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    """Relative to the project, as a test id."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a module imports, also inside functions; ``from a import b`` is ``a.b``."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.AST) -> str:
    """``os.path.join`` for the expression that says so; ``?.join`` where it does not begin with a plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every attribute and plain name that a module looks up."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute | ast.Name):
            yield node.lineno, dotted(node)


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Every call, with the dotted name of what is called."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def all_tests() -> Iterator[tuple[Path, ast.FunctionDef]]:
    """Every test function of the project."""
    for path in files("tests"):
        if path.name.startswith("test_"):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    yield path, node


def warning_codes() -> set[str]:
    """Codes of all warnings that the program records, as they stand in its source."""
    codes = set()
    for path in files("supervisor"):
        if "workflow" in path.parts:
            continue  # there ``warn`` is about a workflow file, and has no code
        for call, called in calls(path):
            first = call.args[0] if call.args else None
            if called.rsplit(".", 1)[-1] in (
                "warn",
                "_warn",
                "_on_trouble",
                "_report",
                "_tell_trouble",
                "Warned",
            ):
                codes |= {c.value for c in call.args[:2] if _is_code(c)}  # type: ignore[attr-defined]
            elif isinstance(first, ast.Constant) and first.value == "W":
                body = call.args[1]
                assert isinstance(body, ast.Dict)
                codes |= {c.value for c in body.values if _is_code(c)}  # type: ignore[attr-defined]
        for node in ast.walk(tree(path)):
            if path.name == "result.py" and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                codes |= {c.value for c in node.value.elts[:1] if _is_code(c)}  # type: ignore[attr-defined]
    return codes


def _is_code(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
