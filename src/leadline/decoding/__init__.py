"""What did the decoder miss? Every search over one step protocol, exact answers, and a certificate."""

from leadline.decoding.audit import SearchAudit, audit
from leadline.decoding.beam import beam_search
from leadline.decoding.certificate import Certificate
from leadline.decoding.decoded import Decoded, Hypothesis
from leadline.decoding.exact import exact_search
from leadline.decoding.exhaustive import exhaustive_search
from leadline.decoding.problem import Problem, Shared
from leadline.decoding.rollout import greedy
from leadline.decoding.scores import GNMT, LengthNormalized, Score, SumLogProb, WordReward
from leadline.decoding.table import Table
from leadline.decoding.trace import Fate, Node, Trace
from leadline.decoding.work import Work

__all__ = [
    "GNMT",
    "Certificate",
    "Decoded",
    "Fate",
    "Hypothesis",
    "LengthNormalized",
    "Node",
    "Problem",
    "Score",
    "SearchAudit",
    "Shared",
    "SumLogProb",
    "Table",
    "Trace",
    "WordReward",
    "Work",
    "audit",
    "beam_search",
    "exact_search",
    "exhaustive_search",
    "greedy",
]
