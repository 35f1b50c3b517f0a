"""Twenty statements of a deep-learning course about autoencoders, recurrent networks and beam search, measured.

>>> from leadline import worksheet
>>> (result,) = worksheet.run(worksheet.select(("beam.c",)), worksheet.Setting("quick"))
>>> result.status, result.answer.agrees
('supported', True)
"""

from leadline.worksheet.answer import Answer, effects_of
from leadline.worksheet.criterion import NEVER, Above, AllOf, AnyOf, Below, Criterion, Fact, Holds, Within
from leadline.worksheet.runner import Result, kept, measure, run
from leadline.worksheet.setting import Setting
from leadline.worksheet.statement import SECTIONS, Statement
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
