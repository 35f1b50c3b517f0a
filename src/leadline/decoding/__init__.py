"""What did the decoder miss? Every search over one step protocol, exact answers, and a certificate."""

from typing import TYPE_CHECKING, Any

from leadline.decoding.audit import SearchAudit, audit
from leadline.decoding.beam import beam_search
from leadline.decoding.certificate import Certificate
from leadline.decoding.comparison import Comparison, compare
from leadline.decoding.complexity import Complexity, complexity
from leadline.decoding.decoded import Decoded, Hypothesis
from leadline.decoding.exact import exact_search
from leadline.decoding.exhaustive import exhaustive_search
from leadline.decoding.language_model import Perplexities, RecurrentLM
from leadline.decoding.problem import Problem, Shared
from leadline.decoding.processors import allow, constrain, forbid, force_prefix, min_length, no_repeat_ngram
from leadline.decoding.rollout import greedy
from leadline.decoding.sampling import sample
from leadline.decoding.scores import GNMT, LengthNormalized, Score, SumLogProb, WordReward
from leadline.decoding.search_errors import SearchErrors, search_errors
from leadline.decoding.table import Table
from leadline.decoding.trace import Fate, Node, Trace
from leadline.decoding.walk import Walk
from leadline.decoding.work import Work

if TYPE_CHECKING:
    from leadline.decoding.hugging_face import huggingface

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
            function = import_module("leadline.decoding.hugging_face").huggingface
        except ImportError as error:
            raise ImportError("Hugging Face models need transformers: pip install 'leadline[hf]'") from error
        globals()[name] = function
        return function
    raise AttributeError(f"module 'leadline.decoding' has no attribute {name!r}")
