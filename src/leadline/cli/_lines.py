"""JSON Lines of ``leadline decode``: read prompts, append answers, resume an interrupted run."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leadline.errors import InputError
from leadline.storage import LineFile, appending_lines, json_line, parse_json, read, split_lines

SHOWN = 60
"""Number of bytes of a wrong line that an error shows."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_prompts(source: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read and check all prompts; return them with their line numbers. Empty lines are skipped."""
    try:
        lines = source.read_bytes().removeprefix(BYTE_ORDER_MARK).split(b"\n")
    except OSError as error:
        raise InputError(
            "--input must be a file that can be read", got=f"--input {source} ({error.strerror})"
        ) from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line.decode(), parse_constant=_refuse_constant)
            json_line(entry).encode()  # refuses lone surrogates, which UTF-8 cannot encode
            reason = None
        except (ValueError, RecursionError) as error:
            entry = None
            reason = str(error)
        if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
            raise InputError(
                '--input must have a JSON object with a prompt in each line: {"prompt": "..."}',
                got=f"line {number} of {source}: {line[:SHOWN].decode(errors='replace')}",
                cause=reason,
            )
        prompts.append((number, {key: entry[key] for key in ("id", "prompt") if key in entry}))
    if not prompts:
        raise InputError(
            "--input must contain at least one prompt", got=f"--input {source}, without a prompt"
        )
    return prompts


def count_answers(
    output: Path, entries: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> int:
    """Return the number of answers of an earlier run, and remove an incomplete last line.

    Args:
        output: file of answers; it may be missing.
        entries: the prompts of this run.
        settings: settings of this run, which every answer records.

    Raises:
        InputError: a line is not the answer to the prompt at its place, with the same settings.
    """
    if not output.exists():
        return 0
    try:
        content = read(output)
    except OSError as error:
        raise InputError(
            "--output must be a file that can be read", got=f"--output {output} ({error.strerror})"
        ) from error
    lines, rest = split_lines(content)
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            record = dict(parse_json(line))
        except (ValueError, TypeError):
            record = {}
        entry = entries[number - 1] if number <= len(entries) else None
        is_last_and_incomplete = number > len(lines)
        if is_last_and_incomplete and entry is not None and _begins(entry, line):
            continue
        if not _is_answer(record, entry, settings):
            got = f"line {number} of {output} is not the answer to prompt {number}"
            if entry is None:
                got = f"{output} contains more than the answers to {len(entries)} prompts"
            raise InputError(
                "--output must name a new file, or the answers of an interrupted run with the same "
                "prompts, model and settings",
                got=got,
                cause="another run wrote the file",
                cure="name another file for --output, or remove this file",
            )
    if rest:
        with appending_lines(output) as file:
            file.truncate(len(content) - len(rest))
    return len(lines)


def _is_answer(
    record: Mapping[str, Any], entry: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> bool:
    """True if the record is the answer to the entry with these settings."""
    if entry is None or record.get("settings") != settings:
        return False
    return all(record.get(name) == value for name, value in entry.items())


def _begins(entry: Mapping[str, Any], line: bytes) -> bool:
    """True if ``line`` is the beginning of the answer to ``entry``."""
    begin = json_line({**entry, "answers": []}).encode().removesuffix(b"]}\n")
    return line.startswith(begin[: len(line)])


class StandardOutput:
    """Standard output with the interface of a file of lines."""

    def append(self, lines: str) -> None:
        """Write lines and flush them."""
        sys.stdout.write(lines)
        sys.stdout.flush()


@contextmanager
def appending(output: Path | None) -> Iterator[LineFile | StandardOutput]:
    """Open a file to append complete lines; without a file, use standard output."""
    if output is None:
        yield StandardOutput()
        return
    with appending_lines(output) as file:
        yield file


def check_output(output: Path) -> None:
    """Refuse an ``--output`` that cannot be written, before any work starts."""
    try:
        is_there = output.exists()
        is_file = output.is_file()
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "--output must be a file that can be written",
            got=f"--output {output} ({error.strerror})",
        ) from None
    if is_there and not is_file:
        raise InputError(
            "--output must be a file",
            got=f"--output {output}, which is a folder, a pipe or a device",
        )


def _refuse_constant(name: str) -> None:
    """Refuse NaN and infinities, which Python's parser accepts although JSON does not have them."""
    raise ValueError(f"{name} is not JSON")
