"""The error index: every rule that an error states, from the syntax trees of the source."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import leadline
from pages.reference import packages, public_names

SOURCE = Path(leadline.__file__).parent
KINDS = ("InputError", "SaveError", "ImportError")
GAP = "…"
"""Stands for the part of a message that is filled in."""


@dataclass(frozen=True)
class Rule:
    """An error that the source raises."""

    kind: str
    message: str
    cause: str
    cure: str
    raised_by: frozenset[str] = field(default=frozenset(), compare=False)
    """Public functions and classes whose calls may reach it."""


def text_of(node: ast.expr | None) -> str:
    """Return the text of an argument, with ``…`` for what is filled in."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value) if node.value is not None else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return GAP


class Functions(ast.NodeVisitor):
    """Collects functions with the names that they call and the errors that they raise."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.calls: dict[str, set[str]] = {}
        self.rules: dict[str, list[Rule]] = {}

    def _visit_definition(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self.path.append(node.name)
        self.generic_visit(node)
        self.path.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_definition  # noqa: N815

    def visit_Call(self, node: ast.Call) -> None:
        """Collect a call, and the rule that it states if it makes an error."""
        function = node.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        place = ".".join(self.path) or "import"
        self.calls.setdefault(place, set()).add(name)
        if name in KINDS and node.args:
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            rule = Rule(
                name,
                text_of(node.args[0]),
                text_of(named.get("cause")),
                text_of(named.get("cure")),
            )
            self.rules.setdefault(place, []).append(rule)
        self.generic_visit(node)


def functions_of(package: str) -> Functions:
    """Read the source of a package, or of a single module."""
    folder = SOURCE / package
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [SOURCE / f"{package}.py"]
    collected = Functions()
    for file in files:
        collected.visit(ast.parse(file.read_text("utf-8")))
    return collected


def reached(functions: Functions, start: str) -> set[str]:
    """Return the functions of a package that a public function or class may call, by name."""
    by_name: dict[str, set[str]] = {}
    for place in functions.calls:
        for part in place.split("."):
            by_name.setdefault(part, set()).add(place)
    found: set[str] = set()
    waiting = list(by_name.get(start, ()))
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found.add(place)
        for name in functions.calls[place]:
            exact = [other for other in by_name.get(name, ()) if other.split(".")[-1] == name]
            waiting += exact if len(exact) == 1 else []
            waiting += [
                other
                for other in by_name.get(name, ())
                if other.endswith((f"{name}.__init__", f"{name}.__post_init__"))
            ]
    return found


def rules_of(package: str, names: list[str]) -> list[Rule]:
    """Return the rules of a package, each with the public names that may raise it."""
    functions = functions_of(package)
    by_place: dict[str, set[str]] = {}
    for name in names:
        for place in reached(functions, name):
            by_place.setdefault(place, set()).add(name)
    unique: dict[tuple[str, str], Rule] = {}
    for place, rules in functions.rules.items():
        for rule in rules:
            known = unique.get((rule.kind, rule.message))
            callers = frozenset(by_place.get(place, ()))
            before = known.raised_by if known else frozenset()
            unique[rule.kind, rule.message] = Rule(
                rule.kind, rule.message, rule.cause, rule.cure, callers | before
            )
    stated = [rule for rule in unique.values() if rule.message.strip(f"{GAP} :")]
    return sorted(stated, key=lambda rule: rule.message.lower())


def escaped(text: str) -> str:
    """Return a text that reStructuredText shows as it is."""
    for sign in ("\\", "*", "`", "|", "_"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def lines_of(package: str, names: list[str], rules: list[Rule]) -> Iterator[str]:
    """Return the section of a package."""
    yield from (package, "-" * len(package), "")
    for rule in rules:
        callers = sorted(rule.raised_by & set(names), key=str.lower)
        linked = ", ".join(f":any:`{name} <leadline.{package}.{name}>`" for name in callers[:6])
        more = f" and {len(callers) - 6} more" if len(callers) > 6 else ""
        yield f"**{escaped(rule.message)}**"
        for title, text in (("Cause", rule.cause), ("Cure", rule.cure)):
            if text.strip(GAP):
                yield f"   | *{title}:* {escaped(text)}"
        if linked:
            yield f"   | *Raised by:* {linked}{more}"
        if rule.kind != "InputError":
            yield f"   | *Type:* {rule.kind}"
        yield ""


INTRODUCTION = """\
Errors
======

Every error states a rule. The lines below the rule show the offending value (``got``), the likely
cause and the cure, if they are known. This page lists all rules by package; ``…`` stands for a part
that is filled in, such as the name of an argument.

Every error is a :any:`LeadlineError <leadline.LeadlineError>`. It is an
:any:`InputError <leadline.InputError>` if an argument breaks a rule, and a
:any:`SaveError <leadline.SaveError>` if a file cannot be read or written. Errors of another type
are marked.

"""


def write(path: Path) -> None:
    """Write the page."""
    lines: list[str] = []
    for name, package in packages().items():
        short = name.removeprefix("leadline.")
        if name == "leadline":
            continue
        names = public_names(package)
        rules = rules_of(short, names)
        if rules:
            lines += lines_of(short, names, rules)
    shared = rules_of("checks", [])
    lines += ["Checks of arguments", "-------------------", "", "Any function may raise these.", ""]
    lines += list(lines_of("checks", [], shared))[3:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(INTRODUCTION + "\n".join(lines) + "\n", "utf-8")
