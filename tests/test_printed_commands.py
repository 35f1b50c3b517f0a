"""Commands, options and Python names exist if the source, the guides or README mention them.

A text is checked as a command if it begins with ``leadline VERB`` and is a whole text, stands in
backticks, or stands in a console block. A command ends at the first word that does not look like an
argument, so prose such as "leadline represent loads them" is accepted.
"""

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from cyclopts import CycloptsError
from cyclopts.exceptions import MissingArgumentError

from leadline.cli import app

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TEMPLATES = sorted([*(ROOT / "src").rglob("*.html"), *(ROOT / "src").rglob("*.js")])
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
VERBS = tuple(name for name in app if not name.startswith("-"))
FOREIGN_OPTIONS = {
    "--lines": "a variable of CSS",
    "--nthreads": "Dask's worker",
    "--index-url": "pip",
    "--no-build-isolation": "pip",
    "--dist": "pytest",
    "--maxprocesses": "pytest",
}
"""Options of other programs that may occur in texts."""


@cache
def texts_of(path: Path) -> tuple[str, ...]:
    """Return every text in a file.

    The texts of Python code are its strings, with ``X`` in place of each f-string field.
    """
    content = path.read_text("utf-8")
    if path.suffix != ".py":
        return (content,)
    return tuple(_strings(ast.parse(content)))


def _strings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
        )
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _strings(child)


def printed_commands(path: Path) -> list[str]:
    """Return the commands in a file with the words after them that look like arguments."""
    found = []
    for text in texts_of(path):
        for match in re.finditer(rf"\bleadline ((?:{'|'.join(VERBS)})\b[^\n`|;]*)", text):
            words = arguments(match[1])
            found.append(shlex.join(words))
    return found


def arguments(text: str) -> list[str]:
    """Return the verb and the words that look like arguments.

    These are options with their values, paths, and names in capitals.
    """
    try:
        verb, *rest = shlex.split(text.replace("’", " "))
    except ValueError:  # The text is prose with an apostrophe.
        verb, *rest = text.split()
    words = [verb.rstrip(".,:;)")]
    for word in rest:
        word = word.rstrip(".,:;)") if not word.startswith("-") else word.rstrip(".,;)")
        follows_option = words[-1].startswith("-") and "=" not in words[-1]
        is_argument = (
            word.startswith("-") or word.isupper() or re.search(r"[./:]\w", word) is not None
        )
        if not is_argument and not follows_option:
            break
        words.append(word)
    return words


def check_command(command: str) -> None:
    """Parse a command with the real command line.

    If required arguments are missing, only the names of the options are checked.
    """
    words = shlex.split(command)
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    unknown = [option for option in options if option not in options_of(words[0])]
    assert not unknown, f"leadline {words[0]} has no {unknown[0]}"
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        return
    except CycloptsError as error:
        raise AssertionError(f"leadline {command}: {error}") from error


@cache
def options_of(verb: str) -> frozenset[str]:
    """Return all option names of a verb, including ``--help``."""
    arguments = app[verb].assemble_argument_collection()
    return frozenset(name for argument in arguments for name in argument.names) | {
        "--help",
        "-h",
        "--version",
    }


ALL = {str(path.relative_to(ROOT)): path for path in (*SOURCES, *TEMPLATES, *DOCUMENTS)}
WITH_COMMANDS = [name for name, path in ALL.items() if printed_commands(path)]


def test_commands_are_found_in_texts():
    assert {"README.md", "docs/guide/gradients.md", "src/leadline/cli/_factory.py"} <= set(
        WITH_COMMANDS
    )
    assert "gradients X:X" in printed_commands(ROOT / "src/leadline/cli/_factory.py")
    assert "represent" in printed_commands(ROOT / "src/leadline/explore/server/_uploads.py"), (
        "prose is no argument"
    )
    assert "worksheet --only beam --out report" in printed_commands(ROOT / "README.md")


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_printed_command_parses(name):
    for command in printed_commands(ALL[name]):
        check_command(command)


@pytest.mark.parametrize(
    "wrong",
    [
        "worksheet --bugdet quick",
        "worksheet --budget slow",
        "represent rows.npz --only x",
        "encode --x",
        "worksheet ae.f",
    ],
)
def test_a_wrong_command_is_reported(wrong):
    with pytest.raises(AssertionError, match="leadline"):
        check_command(wrong)


@pytest.mark.parametrize("incomplete", ["gradients", "worksheet --labels", "decode --exact"])
def test_prose_may_omit_required_arguments_of_a_command(incomplete):
    check_command(incomplete)


@pytest.mark.parametrize("name", [*map(str, ALL)])
def test_every_named_option_exists(name):
    known = set(FOREIGN_OPTIONS).union(*(options_of(verb) for verb in VERBS))
    for text in texts_of(ALL[name]) if not name.endswith((".js", ".html")) else ():
        for option in re.findall(r"(?<![\w-])(?<!var\()--[a-z][a-z-]+[a-z]\b(?!:)", text):
            assert option in known, f"{name} names {option}"


MODULES = (
    "leadline",
    "decoding",
    "recurrent",
    "autoencoders",
    "data",
    "probing",
    "worksheet",
    "report",
    "storage",
)
CALL = re.compile(rf"(?<![\w./])((?:{'|'.join(MODULES)})(?:\.\w+)+)(\(?)")
REFERENCE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([\w.]+)`")


def resolve(dotted: str) -> object:
    """Return the object of a dotted name that begins with Leadline or one of its packages."""
    names = dotted.split(".") if dotted.startswith("leadline") else ["leadline", *dotted.split(".")]
    attempts = []
    for split in range(len(names), 0, -1):
        try:
            found: object = importlib.import_module(".".join(names[:split]))
            for name in names[split:]:
                found = getattr(found, name)
            return found
        except (ImportError, AttributeError) as error:
            attempts.append(error)
    raise attempts[-1]


def code_in(text: str) -> Iterator[str]:
    """Return the texts in backticks, and the texts that are a call as a whole."""
    yield from re.findall(r"``?([^`\n]+)``?", text)
    if re.match(CALL, text):
        yield text


@pytest.mark.parametrize("name", [*map(str, ALL)])
def test_every_named_function_exists(name):
    for text in texts_of(ALL[name]):
        references = [
            reference for reference in REFERENCE.findall(text) if reference.startswith("leadline.")
        ]
        calls = [match[1] for code in code_in(text) for match in CALL.finditer(code) if match[2]]
        # A name with "X" is completed only when it is printed.
        calls = [call for call in calls if "X" not in call.split(".")]
        for dotted in (*references, *calls):
            try:
                resolve(dotted)
            except (AttributeError, ImportError) as error:
                raise AssertionError(f"{name} names {dotted}: {error}") from error


@pytest.mark.parametrize("name", [*map(str, ALL)])
def test_every_named_extra_can_be_installed(name):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    for text in texts_of(ALL[name]):
        for extra in re.findall(r"leadline\[(\w+)\]", text):
            assert extra in extras, f"{name} names leadline[{extra}]"
