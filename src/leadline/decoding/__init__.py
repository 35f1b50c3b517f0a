"""Decoding: searches over one step protocol, exact answers, certificates, and audits.

Each search takes a problem: ``beam_search(*problem, ...)``. A problem comes from :class:`Table`,
:meth:`RecurrentLM.problem`, :func:`huggingface`, or your own step function in :class:`Problem`.
"""

# The folders are floors, and a file imports from its own folder and from lower ones:
#   judging   audits, comparisons, search-error rates
#   search    the searches
#   answers   what a search returns: hypotheses, scores, certificates, traces, origins
#   models    tables, language models, Hugging Face models, constraints
#   problem   the step protocol: problems, states, scores, counted calls

from typing import TYPE_CHECKING, Any

from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._scores import GNMT, LengthNormalized, Score, SumLogProb, WordReward
from leadline.decoding.judging._audit import SearchAudit
from leadline.decoding.judging._auditing import audit
from leadline.decoding.judging._comparison import Comparison, compare
from leadline.decoding.judging._complexity import Complexity, measure_complexity
from leadline.decoding.judging._search_errors import SearchErrors, measure_search_errors
from leadline.decoding.models._constraints import (
    allow,
    constrain,
    forbid,
    force_prefix,
    min_length,
    no_repeat_ngram,
)
from leadline.decoding.models._language_model import RecurrentLM
from leadline.decoding.models._table import Table
from leadline.decoding.problem._problem import Problem
from leadline.decoding.problem._state import Shared
from leadline.decoding.search._exhaustive import exhaustive_search
from leadline.decoding.search._sampling import sample
from leadline.decoding.search.beam._beam import beam_search
from leadline.decoding.search.beam._greedy import greedy
from leadline.decoding.search.exact._exact import exact_search

if TYPE_CHECKING:
    from leadline.decoding.models._hugging_face import huggingface

# Users reach these classes through the results that hold them; other packages import them here.
from leadline.decoding.answers._certificate import Certificate as Certificate
from leadline.decoding.answers._decoded import Hypothesis as Hypothesis
from leadline.decoding.answers._trace import Fate as Fate
from leadline.decoding.answers._trace import Node as Node
from leadline.decoding.answers._trace import Trace as Trace
from leadline.decoding.judging._audit import Walk as Walk
from leadline.decoding.models._language_model import END as END
from leadline.decoding.models._language_model import FILE as FILE
from leadline.decoding.models._perplexities import Perplexities as Perplexities
from leadline.decoding.problem._work import Work as Work
from leadline.decoding.search.beam._beam_settings import BeamSettings as BeamSettings

__all__ = [
    "GNMT",
    "Comparison",
    "Complexity",
    "Decoded",
    "LengthNormalized",
    "Problem",
    "RecurrentLM",
    "Score",
    "SearchAudit",
    "SearchErrors",
    "Shared",
    "SumLogProb",
    "Table",
    "WordReward",
    "allow",
    "audit",
    "beam_search",
    "compare",
    "constrain",
    "exact_search",
    "exhaustive_search",
    "forbid",
    "force_prefix",
    "greedy",
    "huggingface",
    "measure_complexity",
    "measure_search_errors",
    "min_length",
    "no_repeat_ngram",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name == "huggingface":  # loaded on demand, because it imports transformers
        from importlib import import_module

        try:
            function = import_module("leadline.decoding.models._hugging_face").huggingface
        except ImportError as error:
            raise ImportError(
                "decoding.huggingface() needs transformers: pip install 'leadline[hf]'"
            ) from error
        globals()[name] = function
        return function
    raise AttributeError(f"module 'leadline.decoding' has no attribute {name!r}")
