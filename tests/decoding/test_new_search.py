"""A new search takes one class, and its result works like the result of any other search.

The example is diverse beam search with groups of one hypothesis (Vijayakumar et al., *Diverse beam
search*, 2016). A group avoids the tokens that earlier groups chose at the same step.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leadline import decoding
from leadline.decoding.answers._certificate import certify
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.search._search import StepwiseSearch

from .models import Hashed


@dataclass(frozen=True, kw_only=True)
class DiverseSettings(SearchSettings):
    """Settings of diverse beam search."""

    name: ClassVar[str] = "diverse beam search"

    groups: int
    strength: float
    """Penalty of a token for each earlier group that chose it, nats."""


class DiverseBeam(StepwiseSearch):
    """One run of diverse beam search without end tokens."""

    def __init__(self, problem, settings):
        super().__init__(problem, settings, num_kept=settings.groups)
        self.groups = settings.groups
        self.strength = settings.strength
        self.items = np.arange(self.model.batch)
        self.total = np.zeros(self.model.batch)

    def advance(self, t, scores):
        log_prob = self.log_probs(scores, t, self.items)
        parents, new_tokens = [], []
        for item in range(self.model.batch):
            rows = np.flatnonzero(self.items == item)
            times_chosen = np.zeros(log_prob.shape[1])
            for group in range(self.groups):
                row = rows[min(group, len(rows) - 1)]
                new_token = int((log_prob[row] - self.strength * times_chosen).argmax())
                times_chosen[new_token] += 1
                parents.append(row)
                new_tokens.append(new_token)
        self.total = self.total[parents] + log_prob[parents, new_tokens]
        self.items = self.items[parents]
        if t < self.settings.max_length:
            self.history.add(parents, new_tokens, self.total)
            return parents, new_tokens
        shape = (self.model.batch, self.groups)
        columns = (self.total, self.total, np.array(parents), np.array(new_tokens))
        items = np.arange(self.model.batch)
        self.history.finish(items, t, *(column.reshape(shape) for column in columns))
        return [], []

    def sequences(self):
        return self.history.read(self.groups, self.settings.eos)

    def certificate(self, score):
        return certify(score, np.full((self.model.batch, 1), np.inf), "groups have no bound")


def search(problem, strength, groups=3, max_length=4):
    settings = DiverseSettings(max_length=max_length, groups=groups, strength=strength)
    return DiverseBeam(problem, settings).run()


def test_groups_without_a_penalty_repeat_greedy_search():
    problem = Hashed(5, seed=1).problem(2)
    decoded = search(problem, strength=0.0)
    greedy = decoding.greedy(*problem, max_length=4)
    for group in range(3):
        assert np.array_equal(decoded.tokens[:, group], greedy.tokens[:, 0])
        assert np.array_equal(decoded.log_prob[:, group], greedy.log_prob[:, 0])


def test_a_large_penalty_makes_all_groups_differ_at_every_step():
    decoded = search(Hashed(5, seed=1).problem(2), strength=1e3)
    for tokens in decoded.tokens:
        assert all(len(set(step)) == 3 for step in tokens.T.tolist())


def test_its_result_is_shown_compared_and_saved_like_any_other(tmp_path):
    problem = Hashed(5, seed=1).problem()
    decoded = search(problem, strength=1.0)
    assert str(decoded).startswith("diverse beam search returns “")
    assert "no certificate: groups have no bound" in str(decoded)
    beam = decoding.beam_search(*problem, width=3, max_length=4)
    assert "diverse beam search" in decoding.compare(beam, decoded).names
    assert (
        decoding.exact_search(*problem, max_length=4, at_least=decoded).score >= decoded.score[0, 0]
    )
    assert decoding.audit(*problem, decoded).outcome[0] in ("optimal", "search error")
    decoded.save(tmp_path)
    loaded = decoding.Decoded.load(tmp_path)
    assert loaded.settings == DiverseSettings(max_length=4, groups=3, strength=1.0)
