"""The examples in README and the guides run, and the output that they show is compared with the real output.

In Python, comments directly after ``print(...)`` show what it prints: on its line, or on the lines below. On a console,
the lines below a command (``$ …``) do. ``…`` stands for any text: measured numbers, paths, what is left out.
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
    """Runs ``python`` blocks statement by statement."""

    language = "python"

    def evaluate(self, example: Example) -> None:
        """Run one block in the namespace of its document."""
        first_line = example.line + example.parsed.line_offset
        run_python(example.parsed, example.namespace, file=example.path, first_line=first_line)


class ConsoleParser(CodeBlockParser):
    """Runs the commands of ``console`` blocks, in a folder of the document's own."""

    language = "console"

    def evaluate(self, example: Example) -> None:
        """Run the commands of one block."""
        folder = example.namespace.setdefault("folder", example.namespace["tmp_path"])
        run_console(example.parsed, folder)


def run_python(
    source: str, namespace: dict[str, Any], *, file: str = "<example>", first_line: int = 0
) -> None:
    """Run a block, and compare what each ``print`` prints with the comment that shows it.

    Raises:
        AssertionError: something else is printed.
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
    """The output that comments show, by the line of the ``print`` that they belong to."""
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
    """True for ``print(...)`` that stands alone."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    function = statement.value.func
    return isinstance(function, ast.Name) and function.id == "print"


def run_console(source: str, folder: Path) -> None:
    """Run the commands of a block, and compare what they print with the lines below them.

    Raises:
        AssertionError: a command fails or prints something else.
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
    """Each command of a block with the output that is shown below it."""
    for block in re.split(rf"^{re.escape(PROMPT)}", source, flags=re.MULTILINE)[1:]:
        command, _, expected = block.partition("\n")
        yield command, expected.strip()


def environment() -> Mapping[str, str]:
    """The environment in which commands find this Leadline."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONIOENCODING": "utf-8"}


def compare(shown: str, printed: str, where: str) -> None:
    """Check that the printed text is the one that a document shows; line breaks and ``…`` may stand for more."""
    assert is_shown(shown, printed), f"{where}\nshown:   {shown}\nprinted: {printed}"


def is_shown(shown: str, printed: str) -> bool:
    """True if the texts are equal but for white space, and for what ``…`` stands for.

    >>> is_shown("a … c", "a\\nb  c"), is_shown("a 1.7", "a 1.8"), is_shown("a", "a b")
    (True, False, False)
    """
    pieces = [re.escape(" ".join(piece.split())) for piece in shown.split(ANYTHING)]
    pattern = r"\s*.*?\s*".join(piece.replace(r"\ ", " ") for piece in pieces)
    return re.fullmatch(pattern, " ".join(printed.split())) is not None
