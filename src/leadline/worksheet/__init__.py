"""Measurements of twenty statements from a deep-learning course.

The statements are about autoencoders, recurrent networks and beam search.

>>> from leadline import worksheet
>>> (result,) = worksheet.run(worksheet.select(("beam.c",)))
>>> result.status, result.answer.agrees
('supported', True)
"""

from leadline.worksheet._answer import Answer
from leadline.worksheet._answer import effects_of as effects_of
from leadline.worksheet._criterion import NEVER as NEVER
from leadline.worksheet._criterion import Above as Above
from leadline.worksheet._criterion import AllOf as AllOf
from leadline.worksheet._criterion import AnyOf as AnyOf
from leadline.worksheet._criterion import Below as Below
from leadline.worksheet._criterion import Criterion as Criterion
from leadline.worksheet._criterion import EffectPart as EffectPart
from leadline.worksheet._criterion import Fact as Fact
from leadline.worksheet._criterion import Holds as Holds

# For other packages of Leadline; not public.
from leadline.worksheet._criterion import Leaf as Leaf
from leadline.worksheet._criterion import Within as Within
from leadline.worksheet._runner import Result, measure, run
from leadline.worksheet._runner import kept as kept
from leadline.worksheet._setting import BUDGET as BUDGET
from leadline.worksheet._setting import DATA as DATA
from leadline.worksheet._setting import FILE_NAMES as FILE_NAMES
from leadline.worksheet._setting import SETTING_NAMES as SETTING_NAMES
from leadline.worksheet._setting import Setting
from leadline.worksheet._statement import SECTIONS as SECTIONS
from leadline.worksheet._statement import Statement
from leadline.worksheet.statements import STATEMENTS, select
from leadline.worksheet.statements import register as register

__all__ = [
    "STATEMENTS",
    "Answer",
    "Result",
    "Setting",
    "Statement",
    "measure",
    "run",
    "select",
]
