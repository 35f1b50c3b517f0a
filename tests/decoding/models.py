"""Step functions with known answers, and slow reference searches."""

import numpy as np
import torch

from leadline.decoding import Problem


class Hashed:
    """A step function whose scores depend on the whole history through a hash.

    The state is the hash. A row with the state of another row gives the scores of another history,
    so wrong reordering of states is always visible.
    """

    def __init__(self, M, seed=0, scale=2.0, dtype=torch.float64, levels=None, normalized=False):
        self.M = M
        self.seed = seed
        self.scale = scale
        self.dtype = dtype
        self.levels = levels
        self.normalized = normalized
        self.calls = []

    def __call__(self, tokens, state):
        h = (state["hash"] * 1_000_003 + tokens + 17) % (2**31 - 1)
        x = (h.unsqueeze(1) + self.seed) * 7919 + torch.arange(self.M) * 104_729
        x = (x ^ (x >> 7)) * 48_271 % (2**31 - 1)
        x = (x ^ (x >> 11)) * 69_621 % (2**31 - 1)
        unit = x.double() / (2**31 - 1)
        if self.levels:
            unit = (unit * self.levels).floor() / self.levels
        scores = unit.log() * self.scale
        scores = torch.where(unit > 0, scores, -20.0)
        if self.normalized:
            scores = scores.log_softmax(1)
        return scores.to(self.dtype), {"hash": h}

    def problem(self, batch=1, first=0):
        start = torch.arange(first, first + batch)
        return Problem(self, {"hash": torch.zeros(batch, dtype=torch.int64)}, start)


def select_items(problem, index):
    """Return some items of a problem whose state is a hash."""
    step, state, start = problem
    return Problem(step, {"hash": state["hash"][index]}, start[index])


def log_probs(problem, item, prefix):
    """Return the log-probabilities of all next tokens after a prefix, shape (M,)."""
    step, state, start = problem
    state = {key: value[item : item + 1].clone() for key, value in state.items()}
    scores, state = step(start[item : item + 1], state)
    for token in prefix:
        scores, state = step(torch.tensor([token]), state)
    scores = scores.double()
    return (scores if getattr(step, "normalized", False) else scores.log_softmax(1))[0].numpy()


def everything(problem, item, M, max_length, eos=()):
    """Return every complete sequence of an item with its log-probability, by recursion."""
    log_prob_of = {}

    def grow(prefix, total):
        after = log_probs(problem, item, prefix)
        for token in range(M):
            log_prob = total + after[token]
            if log_prob == -np.inf:
                continue
            if token in eos or len(prefix) + 1 == max_length:
                log_prob_of[(*prefix, token)] = log_prob
            else:
                grow((*prefix, token), log_prob)

    grow((), 0.0)
    return log_prob_of


def slow_beam(problem, item, M, *, width, max_length, eos=(), score, eos_mode):
    """Textbook beam search: sort lists of (score, parent rank, token).

    Returns complete sequences as (score, tokens, log-probability), best first.
    """
    live, done = [((), 0.0)], []
    for t in range(1, max_length + 1):
        candidates = []
        for rank, (prefix, total_so_far) in enumerate(live):
            after = log_probs(problem, item, prefix)
            for token in range(M):
                if after[token] > -np.inf:
                    total = total_so_far + after[token]
                    candidates.append((-score(total, t), 1, rank, token, (*prefix, token), total))
        if eos_mode == "in_beam":
            candidates += [
                (-s, 0, i, 0, tokens, total) for i, (s, tokens, total) in enumerate(done)
            ]
            done = []
        candidates.sort(key=lambda c: c[:4])
        complete = [c[1] == 0 or t == max_length or c[4][-1] in eos for c in candidates]
        done += [
            (-c[0], c[4], c[5])
            for c, is_done in zip(candidates[:width], complete[:width], strict=True)
            if is_done
        ]
        done.sort(key=lambda d: -d[0])
        eligible = candidates[:width] if eos_mode == "in_beam" else candidates
        flags = complete[: len(eligible)]
        live = [(c[4], c[5]) for c, is_done in zip(eligible, flags, strict=True) if not is_done][
            :width
        ]
        if not live:
            break
    return done


def markov(M, seed):
    """Return a problem in which only the last token matters, and its table of log-probabilities."""
    rng = np.random.default_rng(seed)
    table = torch.from_numpy(rng.normal(size=(M + 1, M)) * 2).log_softmax(1)

    def step(tokens, state):
        return table[tokens], state

    step.normalized = True  # pyright: ignore[reportFunctionMemberAccess]
    return Problem(step, {"none": torch.zeros(1, 1)}, torch.tensor([M])), table.numpy()


def viterbi(table, length, end=None):
    """Return the best log-probability of each length up to ``length``, by dynamic programming.

    Without an end token, only the full length is complete.
    """
    M = table.shape[1]
    best, answers = table[M].copy(), {}
    for t in range(1, length + 1):
        if end is not None:
            answers[t] = best[end] if t < length else best.max()
            best[end] = -np.inf
        elif t == length:
            answers[t] = best.max()
        best = (best[:, None] + table[:M]).max(axis=0)
    return answers
