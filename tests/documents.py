"""Parsers that run the examples in README and the guides, and compare their output.

In Python, comments on the line of ``print(...)`` or on the lines below show its output. On a
console, the lines below a command (``$ …``) show its output. ``…`` stands for any text, such as a
measured number or a path.

All examples of a document run in one folder. A Python block whose first line is the name of a file,
such as ``# mine.py``, is also saved there.
"""

import ast
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from sybil import Example
from sybil.parsers.markdown import CodeBlockParser

ANYTHING = "…"
PROMPT = "$ "


class PythonParser(CodeBlockParser):
    """A parser that runs ``python`` blocks statement by statement."""

    language = "python"

    def evaluate(self, example: Example) -> None:
        """Run a block in the namespace of its document."""
        save_if_named(example.parsed, enter_folder(example.namespace))
        first_line = example.line + example.parsed.line_offset
        run_python(example.parsed, example.namespace, file=example.path, first_line=first_line)


class ConsoleParser(CodeBlockParser):
    """A parser that runs the commands of ``console`` blocks."""

    language = "console"

    def evaluate(self, example: Example) -> None:
        """Run the commands of a block."""
        run_console(example.parsed, enter_folder(example.namespace))


def enter_folder(namespace: dict[str, Any]) -> Path:
    """Change to the folder that all examples of a document share, and return it."""
    folder = namespace.setdefault("__folder__", namespace["tmp_path"])
    os.chdir(folder)
    return folder


def save_if_named(source: str, folder: Path) -> None:
    """Save a block whose first line is the name of a file, as a reader would do."""
    first_line, _, _ = source.partition("\n")
    named = re.fullmatch(r"# (\w+\.py)", first_line)
    if named is not None:
        (folder / named[1]).write_text(source, "utf-8")


def run_python(
    source: str, namespace: dict[str, Any], *, file: str = "<example>", first_line: int = 0
) -> None:
    """Run a block, and compare the output of each ``print`` with the comment that shows it.

    Raises:
        AssertionError: the output differs.
    """
    shown = shown_output(source)
    padded = ast.parse("\n" * first_line + source, file)
    for statement in padded.body:
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(ast.Module([statement], []), file, "exec"), namespace)
        sys.stdout.write(printed.getvalue())
        expected = shown.get(statement.lineno - first_line)
        if expected is not None:
            compare(expected, printed.getvalue(), f"{file}, line {statement.lineno}")
    namespace.pop("__builtins__", None)


def shown_output(source: str) -> dict[int, str]:
    """Return the output that comments show, by the line of their ``print``."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    lines = source.splitlines()
    shown = {}
    for statement in ast.parse(source).body:
        if not is_print(statement):
            continue
        end = statement.end_lineno or statement.lineno
        texts = [comments[end].string] if end in comments else []
        below = end + 1
        while below in comments and lines[below - 1].startswith("#"):
            texts.append(comments[below].string)
            below += 1
        if texts:
            shown[statement.lineno] = "\n".join(text.lstrip("#").strip() for text in texts)
    return shown


def is_print(statement: ast.stmt) -> bool:
    """True for a statement that only calls ``print(...)``."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    function = statement.value.func
    return isinstance(function, ast.Name) and function.id == "print"


def run_console(source: str, folder: Path) -> None:
    """Run the commands of a block, and compare their output with the lines below them.

    Raises:
        AssertionError: a command fails, or its output differs.
    """
    for command, expected in commands(source):
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, f"{PROMPT}{command}\n{done.stdout}{done.stderr}"
        if expected:
            compare(expected, done.stdout, f"{PROMPT}{command}")


def commands(source: str) -> Iterator[tuple[str, str]]:
    """Return each command of a block with the output that is shown below it."""
    for block in re.split(rf"^{re.escape(PROMPT)}", source, flags=re.MULTILINE)[1:]:
        command, _, expected = block.partition("\n")
        yield command, expected.strip()


def environment() -> Mapping[str, str]:
    """Return the environment in which commands find this version of Leadline."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONIOENCODING": "utf-8"}


def compare(shown: str, printed: str, where: str) -> None:
    """Check that the printed text agrees with the text in the document. See :func:`is_shown`."""
    assert is_shown(shown, printed), f"{where}\nshown:   {shown}\nprinted: {printed}"


def is_shown(shown: str, printed: str) -> bool:
    """True if the texts are equal. White space may differ, and ``…`` stands for any text.

    >>> is_shown("a … c", "a\\nb  c"), is_shown("a 1.7", "a 1.8"), is_shown("a", "a b")
    (True, False, False)
    """
    pieces = [re.escape(" ".join(piece.split())) for piece in shown.split(ANYTHING)]
    pattern = r"\s*.*?\s*".join(piece.replace(r"\ ", " ") for piece in pieces)
    return re.fullmatch(pattern, " ".join(printed.split())) is not None
