"""Safe reading and writing of files.

Four rules hold for every file that Leadline writes:

- The file is written under a temporary name in the same folder, and then renamed in one step. A
  reader sees either the old file or the new file.
- A lock protects the file or folder while it is written (:func:`lock_file`, :func:`lock_folder`).
- If a process is killed, the next writer of the same file removes the unfinished file, under the
  lock.
- Leadline replaces and deletes only files that it wrote itself (:class:`OutputFolder`,
  :func:`save`).

Reading a file never executes code from it. This package is private to Leadline.
"""

from leadline.storage._documents import load_document as load_document
from leadline.storage._documents import save_document as save_document
from leadline.storage._files import Writer as Writer
from leadline.storage._files import remove_leftovers as remove_leftovers
from leadline.storage._files import write as write
from leadline.storage._files import writing as writing
from leadline.storage._json import canonical_json as canonical_json
from leadline.storage._json import parse_json as parse_json
from leadline.storage._json_lines import LineFile as LineFile
from leadline.storage._json_lines import appending_lines as appending_lines
from leadline.storage._json_lines import json_line as json_line
from leadline.storage._json_lines import split_lines as split_lines
from leadline.storage._locks import lock_file as lock_file
from leadline.storage._locks import lock_folder as lock_folder
from leadline.storage._outputs import OutputFolder as OutputFolder
from leadline.storage._outputs import output_folder as output_folder
from leadline.storage._paths import open_regular as open_regular
from leadline.storage._paths import read as read
from leadline.storage._records import SCHEMA as SCHEMA
from leadline.storage._records import check_replaceable as check_replaceable
from leadline.storage._records import load as load
from leadline.storage._records import pack as pack
from leadline.storage._records import save as save
from leadline.storage._records import unpack as unpack
from leadline.storage._registry import record as record
from leadline.storage._registry import with_current_names as with_current_names
