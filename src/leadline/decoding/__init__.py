"""What did the decoder miss? Every search over one step protocol, exact answers, and a certificate."""

from typing import TYPE_CHECKING, Any

from leadline.decoding.judging._audit import SearchAudit, Walk, audit
from leadline.decoding.judging._comparison import Comparison, compare
from leadline.decoding.judging._complexity import Complexity, complexity
from leadline.decoding.judging._search_errors import SearchErrors, search_errors
from leadline.decoding.models._constraints import (
    allow,
    constrain,
    forbid,
    force_prefix,
    min_length,
    no_repeat_ngram,
)
from leadline.decoding.models._language_model import Perplexities, RecurrentLM
from leadline.decoding.models._problem import Problem, Shared
from leadline.decoding.models._table import Table
from leadline.decoding.search._beam import beam_search
from leadline.decoding.search._certificate import Certificate
from leadline.decoding.search._decoded import Decoded, Hypothesis
from leadline.decoding.search._exact import exact_search
from leadline.decoding.search._exhaustive import exhaustive_search
from leadline.decoding.search._greedy import greedy
from leadline.decoding.search._sampling import sample
from leadline.decoding.search._scores import GNMT, LengthNormalized, Score, SumLogProb, WordReward
from leadline.decoding.search._trace import Fate, Node, Trace
from leadline.decoding.search._work import Work

if TYPE_CHECKING:
    from leadline.decoding.models._hugging_face import huggingface

# For other packages of Leadline; not public.
from leadline.decoding.models._language_model import END as END
from leadline.decoding.models._language_model import FILE as FILE

__all__ = [
    "GNMT",
    "Certificate",
    "Comparison",
    "Complexity",
    "Decoded",
    "Fate",
    "Hypothesis",
    "LengthNormalized",
    "Node",
    "Perplexities",
    "Problem",
    "RecurrentLM",
    "Score",
    "SearchAudit",
    "SearchErrors",
    "Shared",
    "SumLogProb",
    "Table",
    "Trace",
    "Walk",
    "WordReward",
    "Work",
    "allow",
    "audit",
    "beam_search",
    "compare",
    "complexity",
    "constrain",
    "exact_search",
    "exhaustive_search",
    "forbid",
    "force_prefix",
    "greedy",
    "huggingface",
    "min_length",
    "no_repeat_ngram",
    "sample",
    "search_errors",
]


def __getattr__(name: str) -> Any:
    if name == "huggingface":  # needs the extra "hf", and loads transformers
        from importlib import import_module

        try:
            function = import_module("leadline.decoding.models._hugging_face").huggingface
        except ImportError as error:
            raise ImportError(
                "Hugging Face models need transformers: pip install 'leadline[hf]'"
            ) from error
        globals()[name] = function
        return function
    raise AttributeError(f"module 'leadline.decoding' has no attribute {name!r}")
