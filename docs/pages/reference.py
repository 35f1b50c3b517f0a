"""The API reference: every public name of every package, from the ``__all__`` of its door."""

import ast
import inspect
import re
import shutil
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

import leadline
from leadline.sounding import Sounding

HEADINGS = ("Functions", "Soundings", "Classes", "Constants and modules")


def packages() -> dict[str, ModuleType]:
    """Return the public packages by name; ``leadline`` itself comes first."""
    rooms = [name for name in leadline.__all__ if isinstance(getattr(leadline, name), ModuleType)]
    names = ["leadline", *(f"leadline.{room}" for room in rooms)]
    return {name: import_module(name) for name in names}


def public_names(package: ModuleType) -> list[str]:
    """Return the public names of a package that are documented on its page."""
    names = getattr(package, "__all__", None) or _own_names(package)
    rooms = set(packages()) if package is leadline else set()
    elsewhere = set(leadline.representation.__all__) if package is leadline else set()
    return [
        name
        for name in names
        if f"leadline.{name}" not in rooms and name not in elsewhere and not name.startswith("__")
    ]


def _own_names(module: ModuleType) -> list[str]:
    """Return the public functions and classes that a module without ``__all__`` defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def heading_of(value: Any) -> str:
    """Return the section in which a public object is described."""
    if isinstance(value, GenericAlias):
        return "Constants and modules"
    if inspect.isclass(value):
        return "Soundings" if issubclass(value, Sounding) else "Classes"
    return "Functions" if callable(value) else "Constants and modules"


def summary(value: Any) -> str:
    """Return the first sentence of a docstring."""
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def page(package: ModuleType) -> str:
    """Return the page of a package."""
    name = package.__name__
    lines = [name, "=" * len(name), "", f".. py:module:: {name}", ""]
    lines += [inspect.getdoc(package) or "", ""]
    for heading in HEADINGS:
        members = {
            member: getattr(package, member)
            for member in sorted(public_names(package), key=str.lower)
            if heading_of(getattr(package, member)) == heading
        }
        if members:
            lines += _section(name, heading, members)
    return "\n".join(lines) + "\n"


def _section(package: str, heading: str, members: dict[str, Any]) -> list[str]:
    lines = [heading, "-" * len(heading), ""]
    for member, value in members.items():
        lines += _entry(package, member, value)
    return lines


def _entry(package: str, name: str, value: Any) -> list[str]:
    path = f"{package}.{name}"
    if inspect.isclass(value):
        return [f".. autoclass:: {path}", "   :members:", ""]
    if inspect.ismodule(value):
        return [f".. automodule:: {path}", "   :members:", ""]
    if callable(value) and not isinstance(value, GenericAlias):
        return [f".. autofunction:: {path}", ""]
    return [f".. py:data:: {path}", "", f"   {constant_summary(package, name)}", ""]


def constant_summary(package: str, name: str) -> str:
    """Return the docstring of a constant, which stands below its assignment in the source."""
    folder = Path(str(import_module(package).__file__)).parent
    for file in sorted(folder.rglob("*.py")):
        body = ast.parse(file.read_text("utf-8")).body
        for statement, following in pairwise(body):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if is_text and name in _assigned(statement):
                return " ".join(str(following.value.value).split())
    return ""


def _assigned(statement: ast.stmt) -> list[str]:
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [getattr(statement, "target", None)]
    )
    return [target.id for target in targets if isinstance(target, ast.Name)]


def write(folder: Path) -> None:
    """Write one page for each package, and an index that names every public object."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = ["API reference", "=============", ""]
    index += [
        "Every public name, by package. Names that are not listed here may change without notice.",
        "",
    ]
    contents = [".. toctree::", "   :hidden:", ""]
    for name, package in packages().items():
        (folder / f"{name}.rst").write_text(page(package), "utf-8")
        contents.append(f"   {name}")
        index += [f":doc:`{name}`", *_rows(name, package), ""]
    (folder / "index.rst").write_text("\n".join([*index, *contents]) + "\n", "utf-8")


def _rows(name: str, package: ModuleType) -> list[str]:
    names = sorted(public_names(package), key=str.lower)
    rows = [f"    :any:`{member} <{name}.{member}>`" for member in names]
    return [" ·\n".join(rows)]


def public_path(target: str) -> str | None:
    """Return the public path of an object that a docstring names by another path, or ``None``."""
    parts = target.removeprefix("leadline.").split(".")
    loaded = packages()
    for place, part in enumerate(parts):
        for name, package in loaded.items():
            is_its_package = name.endswith(f".{parts[0]}") or not target.startswith("leadline.")
            if is_its_package and part in public_names(package):
                return ".".join([name, *parts[place:]])
    for name, package in loaded.items():
        for place, part in enumerate(parts):
            if part in public_names(package):
                return ".".join([name, *parts[place:]])
    return None


def resolve(app: Any, environment: Any, node: Any, content: Any) -> Any:
    """Link a reference by a private path to the public object; show a private object as text."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    path = public_path(target)
    if path is None:
        return content if _exists(target) else None
    domain = environment.get_domain("py")
    document = node.get("refdoc", "")
    return domain.resolve_xref(environment, document, app.builder, "obj", path, node, content)


def link_functions(app: Any, document: str, source: list[str]) -> None:
    """Link the public names on the page "Which function when".

    The page is plain Markdown elsewhere.
    """
    if document == "which":
        source[0] = re.sub(r"`([a-z]+(?:\.\w+)+)`", _linked, source[0])


def _linked(match: re.Match[str]) -> str:
    name = match[1]
    path = public_path(name if name.startswith("leadline.") else f"leadline.{name}")
    return match[0] if path is None else f"{{any}}`{name} <{path}>`"


def _exists(path: str) -> bool:
    """True if a dotted path names an object of Leadline that is not public."""
    if not path.startswith("leadline."):
        return False
    module, _, name = path.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False
