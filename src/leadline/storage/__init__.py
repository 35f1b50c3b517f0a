"""Files on disk: complete or absent, locked while they are written, and never executed.

Four rules hold for everything that Leadline writes:

- A file is written beside its target and renamed in one step. A reader meets the old file or the new one.
- A lock protects the file or folder while it is written (:func:`lock_file`, :func:`lock_folder`).
- A file that a killed process left behind is removed by the next writer of the same target, under the lock.
- Only files with Leadline's own mark are replaced or deleted (:class:`OutputFolder`, :func:`save`).
"""

from leadline.storage._documents import load_document, save_document
from leadline.storage._files import Writer, remove_leftovers, write, writing
from leadline.storage._json import canonical_json, parse_json
from leadline.storage._json_lines import LineFile, appending_lines, json_line, split_lines
from leadline.storage._locks import lock_file, lock_folder
from leadline.storage._outputs import OutputFolder, output_folder
from leadline.storage._paths import open_regular, read
from leadline.storage._records import SCHEMA, check_replaceable, load, pack, save, unpack
from leadline.storage._registry import record, with_current_names

__all__ = [
    "SCHEMA",
    "LineFile",
    "OutputFolder",
    "Writer",
    "appending_lines",
    "canonical_json",
    "check_replaceable",
    "json_line",
    "load",
    "load_document",
    "lock_file",
    "lock_folder",
    "open_regular",
    "output_folder",
    "pack",
    "parse_json",
    "read",
    "record",
    "remove_leftovers",
    "save",
    "save_document",
    "split_lines",
    "unpack",
    "with_current_names",
    "write",
    "writing",
]
