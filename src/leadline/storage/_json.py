"""Writing of canonical JSON, and reading of JSON from untrusted files."""

import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and a final newline, so that equal values give equal text.

    >>> canonical_json({"b": 1, "a": [1.5]})
    '{\\n  "a": [\\n    1.5\\n  ],\\n  "b": 1\\n}\\n'
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    # A file name that is not valid UTF-8 may be part of the text; a byte is written as \udcff.
    return text.encode("utf-8", "backslashreplace").decode()


def parse_json(content: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: the text is not JSON, not UTF-8, or nested too deeply.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: the JSON is nested too deeply
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
