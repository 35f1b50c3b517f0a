"""The source has no import cycles, and no package imports private names of another package."""

import ast
from pathlib import Path

import leadline

ROOT = Path(leadline.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}

DOORS_WITHIN = {"leadline.data.files"}
"""Packages inside another package that have their own public names."""


def module_name(path: Path) -> str:
    """Return the dotted name of a file; an ``__init__`` has the name of its package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Return the modules of Leadline that a file imports, at its top or inside a function.

    An imported name counts as a module only if there is a module of that name.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name in MODULES}


def imports_by_module() -> dict[str, set[str]]:
    """Return the imports of each module.

    A module that imports from its own package, or from ``leadline`` itself, does not depend on that
    ``__init__`` file: Python has already begun to run it.
    """
    graph = {}
    for name, path in MODULES.items():
        graph[name] = {
            other
            for other in imports(path)
            if other not in (name, "leadline") and not name.startswith(f"{other}.")
        }
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return each module that imports itself indirectly, with the shortest cycle."""
    found = []
    for start in graph:
        ways = [[start]]
        seen = set()
        while ways:
            way = ways.pop(0)
            if start in graph[way[-1]]:
                found.append(way)
                break
            for other in sorted(graph[way[-1]] - seen):
                seen.add(other)
                ways.append([*way, other])
    return found


def test_the_source_has_no_import_cycles():
    assert circles(imports_by_module()) == []


def test_an_import_cycle_would_be_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circles(graph) == [["b", "c"], ["c", "b"]]


def test_no_package_imports_private_names_of_another():
    past = []
    for name, path in MODULES.items():
        for other in imports(path) - DOORS_WITHIN:
            _, package, *inside = other.split(".") if "." in other else (other, "")
            if inside and package in PACKAGES and not name.startswith(f"leadline.{package}"):
                past.append(f"{name} imports {other}")
    assert past == []


def test_imports_inside_functions_are_found():
    path = ROOT / "report" / "_worksheet.py"
    assert "leadline.worksheet" in imports(path)
    lazy = ROOT / "cli" / "_gradients.py"
    assert "leadline.report" in imports(lazy)
