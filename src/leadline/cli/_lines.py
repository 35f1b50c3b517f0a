"""JSON Lines of ``leadline decode``: prompts that are read, answers that are appended, and where a run was stopped."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leadline.errors import InputError
from leadline.storage import LineFile, appending_lines, json_line, parse_json, read, split_lines


def read_prompts(source: Path) -> list[tuple[int, dict[str, Any]]]:
    """All prompts with the numbers of their lines, checked; empty lines are left out."""
    try:
        lines = source.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InputError(
            "--input is a file that can be read", got=f"--input {source} ({error.strerror})"
        ) from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line.decode(), parse_constant=_refuse_constant)
            json_line(entry).encode()  # refuses halves of characters, which have no form in a file
        except (ValueError, RecursionError) as error:
            entry = error
        if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
            raise InputError(
                'each line of --input is a JSON object with a text: {"prompt": "..."}',
                got=f"line {number} of {source}: {line[:60].decode(errors='replace')}",
                cause=str(entry) if isinstance(entry, Exception) else None,
            )
        prompts.append((number, {key: entry[key] for key in ("id", "prompt") if key in entry}))
    if not prompts:
        raise InputError("--input holds a prompt or more", got=f"{source}, without any")
    return prompts


def whole_lines(
    output: Path, entries: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> int:
    """How many answers an earlier run left; a half-written last line is cut off."""
    if not output.exists():
        return 0
    try:
        content = read(output)
    except OSError as error:
        raise InputError(
            "--output is a file that can be read", got=f"--output {output} ({error.strerror})"
        ) from error
    lines, rest = split_lines(content)
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            record = dict(parse_json(line))
        except (ValueError, TypeError):
            record = {}
        entry = entries[number - 1] if number <= len(entries) else None
        if number > len(lines) and entry is not None and _begins(entry, line):
            continue
        if (
            entry is None
            or record.get("settings") != settings
            or any(record.get(k) != v for k, v in entry.items())
        ):
            raise InputError(
                "an interrupted run goes on with the same prompts, model and settings",
                got=f"line {number} of {output} is not the answer to prompt {number}"
                if entry is not None
                else f"{output} holds more than the answers to {len(entries)} prompts",
                cause="the file is of another run",
                cure="name another file for --output, or remove this one",
            )
    if rest:
        with appending_lines(output) as file:
            file.truncate(len(content) - len(rest))
    return len(lines)


def _begins(entry: Mapping[str, Any], line: bytes) -> bool:
    """True if a line is the beginning of the answer to an entry. An answer begins with the entry itself."""
    begin = json_line({**entry, "answers": []}).encode().removesuffix(b"]}\n")
    return line.startswith(begin[: len(line)])


class StandardOutput:
    """Standard output, as a place for lines. It stands in for a file."""

    def append(self, lines: str) -> None:
        """Write lines and flush them."""
        sys.stdout.write(lines)
        sys.stdout.flush()


@contextmanager
def appending(output: Path | None) -> Iterator[LineFile | StandardOutput]:
    """Open a file for complete lines, or standard output if there is no file."""
    if output is None:
        yield StandardOutput()
        return
    with appending_lines(output) as file:
        yield file


def check_output(output: Path) -> None:
    """Refuse an ``--output`` that is not a file, or whose folder cannot be written, before any work starts."""
    try:
        is_there = output.exists()
        is_file = output.is_file()
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "--output is a file that can be written", got=f"--output {output} ({error.strerror})"
        ) from None
    if is_there and not is_file:
        raise InputError(
            "--output is a file", got=f"--output {output}, which is a folder, a pipe or a device"
        )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
