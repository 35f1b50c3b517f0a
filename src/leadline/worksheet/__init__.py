"""Twenty statements of a deep-learning course about autoencoders, recurrent networks and beam search, measured.

>>> from leadline import worksheet
>>> (result,) = worksheet.run(worksheet.select(("beam.c",)), worksheet.Setting("quick"))
>>> result.status, result.answer.agrees
('supported', True)
"""

from leadline.worksheet._answer import Answer, effects_of
from leadline.worksheet._criterion import (
    NEVER,
    Above,
    AllOf,
    AnyOf,
    Below,
    Criterion,
    Fact,
    Holds,
    Within,
)

# For other packages of Leadline; not public.
from leadline.worksheet._criterion import Leaf as Leaf
from leadline.worksheet._runner import Result, kept, measure, run
from leadline.worksheet._setting import BUDGET as BUDGET
from leadline.worksheet._setting import DATA as DATA
from leadline.worksheet._setting import FILE_NAMES as FILE_NAMES
from leadline.worksheet._setting import SETTING_NAMES as SETTING_NAMES
from leadline.worksheet._setting import Setting
from leadline.worksheet._statement import SECTIONS, Statement
from leadline.worksheet.statements import STATEMENTS, select

__all__ = [
    "NEVER",
    "SECTIONS",
    "STATEMENTS",
    "Above",
    "AllOf",
    "Answer",
    "AnyOf",
    "Below",
    "Criterion",
    "Fact",
    "Holds",
    "Result",
    "Setting",
    "Statement",
    "Within",
    "effects_of",
    "kept",
    "measure",
    "run",
    "select",
]
