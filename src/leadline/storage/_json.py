"""JSON text: equal values give equal text, and no text makes the reader fail with a raw error."""

import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and a final newline: equal values give equal text.

    >>> canonical_json({"b": 1, "a": [1.5]})
    '{\\n  "a": [\\n    1.5\\n  ],\\n  "b": 1\\n}\\n'
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode(
        "utf-8", "backslashreplace"
    ).decode()  # a file name that is not UTF-8 becomes JSON's \\udcff


def parse_json(content: str | bytes) -> Any:
    """The value that a JSON text holds.

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
