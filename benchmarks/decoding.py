"""Benchmarks of beam search against Hugging Face and the bare model, and of exact search.

The compared functions run in turn in one process. Each reported ratio is the median of the ratios
of the pairs.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
import transformers

from benchmarks.pairs import Row, paired, row
from leadline import decoding
from leadline.decoding.problem import _work as work
from leadline.decoding.search.beam import _run as run


def measure(only: Sequence[str] = ()) -> list[Row]:
    """Measure the given parts, or all parts, and return their rows.

    A row contains the work, the median ratio of the pairs (peer / ours, or ours / bare) with its
    times, the bar, and whether the bar is met.
    """
    small = {"layers": 2, "width": 128, "M": 2000, "prompt": 64, "faster": 1.6, "over_bare": 1.20}
    large = {
        "layers": 6,
        "width": 512,
        "M": 32_000,
        "prompt": 400,
        "faster": 1.3,
        "over_bare": 1.08,
    }
    parts: dict[str, Callable[[], list[Row]]] = {
        "small": lambda: against_generate("GPT-2-like 2x128", 31, **small),
        "large": lambda: against_generate("GPT-2-like 6x512", 3, **large),
        "recurrent": lambda: recurrent(31),
        "exact": exact,
    }
    return [row for name in only or parts for row in parts[name]()]


def gpt2(layers: int, width: int, M: int, positions: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=M,
            n_positions=positions,
            n_embd=width,
            n_layer=layers,
            n_head=max(2, width // 64),
            initializer_range=0.1,
            bos_token_id=None,
            eos_token_id=None,
        )
        return transformers.GPT2LMHeadModel(config).eval()


def against_generate(
    name: str,
    rounds: int,
    *,
    layers: int,
    width: int,
    M: int,
    prompt: int,
    faster: float,
    over_bare: float,
) -> list[Row]:
    """Compare beam search with ``generate`` of Hugging Face and with the forward passes alone.

    The tokens must be identical in float64. The times are measured in float32.

    A minimal search is measured as well. It performs only the operations that choose the next
    tokens, and the moves of states that our search made. The tokens are given to it in advance, and
    it neither stores hypotheses nor computes certificates.
    """
    k, T = 5, 64
    model = gpt2(layers, width, M, prompt + T)
    ids = torch.randint(0, M, (1, prompt), generator=torch.Generator().manual_seed(1))
    score = decoding.LengthNormalized(1.0)

    def ours() -> decoding.Decoded:
        return decoding.beam_search(
            *decoding.huggingface(model, ids), width=k, max_length=T, score=score
        )

    def theirs() -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                num_beams=k,
                max_new_tokens=T,
                do_sample=False,
                length_penalty=1.0,
                early_stopping=False,
                pad_token_id=0,
                eos_token_id=None,
            )[:, prompt:]

    tokens = torch.arange(k)

    def bare() -> None:
        step, state, start = decoding.huggingface(model, ids)
        with torch.inference_mode():
            _, state = step(start, state)
            state = state.select(torch.zeros(k, dtype=torch.int64))
            for _ in range(T - 1):
                _, state = step(tokens, state)

    tokens_of_steps, moves = record_choices(
        decoding.huggingface(model, ids), width=k, max_length=T, score=score
    )

    def minimal() -> None:
        step, state, _ = decoding.huggingface(model, ids)
        total = torch.zeros(1)
        with torch.inference_mode():
            for tokens, index in zip(tokens_of_steps, moves, strict=True):
                scores, state = step(tokens, state)
                total, place = (scores.log_softmax(1) + total[:, None]).view(-1).topk(k)
                place.remainder(M)
                if index is not None:
                    state, _ = state.reorder(index)

    model.double()
    same = ours().tokens[0, 0].tolist() == theirs()[0].tolist()
    model.float()
    mine, generate, forwards, floor = paired(ours, theirs, bare, minimal, rounds=rounds)
    possible = row("", floor, generate, faster, peer_over_ours=True)["measured"]
    return [
        {
            "work": f"{name}: tokens of generate, float64",
            "measured": "identical" if same else "different",
            "bar": "identical",
            "met": same,
        },
        row(f"{name}: faster than generate", mine, generate, faster, peer_over_ours=True),
        {
            "work": f"{name}: a minimal search with tokens and moves given: faster than generate",
            "measured": possible,
            "bar": "none, for comparison",
            "met": None,
        },
        row(f"{name}: over bare forwards", mine, forwards, over_bare, peer_over_ours=False),
    ]


def record_choices(
    problem: decoding.Problem, **settings: Any
) -> tuple[list[torch.Tensor], list[list[int] | None]]:
    """Return the tokens of each step of a beam search, and the rows that it moved afterwards."""
    tokens_of_steps: list[torch.Tensor] = []
    moves: list[list[int] | None] = []

    class RecordedState:
        def __init__(self, state: Any):
            self.state = state

        def select(self, index: torch.Tensor) -> "RecordedState":
            return RecordedState(self.state.select(index))

        def reorder(self, index: list[int]) -> tuple["RecordedState", int]:
            moves[-1] = index
            state, written = self.state.reorder(index)
            return RecordedState(state), written

    def step(tokens: torch.Tensor, recorded: RecordedState) -> tuple[torch.Tensor, RecordedState]:
        tokens_of_steps.append(tokens)
        moves.append(None)
        scores, state = problem.step(tokens, recorded.state)
        return scores, RecordedState(state)

    decoding.beam_search(step, RecordedState(problem.state), problem.start, **settings)
    return tokens_of_steps, moves


def recurrent(rounds: int) -> list[Row]:
    """Measure a GRU of 256 units (10,000 words, width 5, batch 8, 50 tokens).

    The cost of the certificate and of the counters is measured as well.
    """
    H, M, k, B, T = 256, 10_000, 5, 8, 50
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cell, head, embedding = (
            torch.nn.GRUCell(H, H),
            torch.nn.Linear(H, M),
            torch.nn.Embedding(M, H),
        )

    def step(tokens: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = cell(embedding(tokens), h)
        return head(h), h

    start, h0, tokens = torch.arange(B), torch.zeros(B, H), torch.arange(B * k)

    def ours() -> decoding.Decoded:
        return decoding.beam_search(step, h0, start, width=k, max_length=T)

    def bare() -> None:
        with torch.no_grad():
            _, h = step(start, h0)
            h = h.repeat_interleave(k, 0)
            for _ in range(T - 1):
                _, h = step(tokens, h)

    def without() -> decoding.Decoded:
        no_bounds = patch.object(run.BeamSearch, "_discard", lambda *_: None)
        with no_bounds, patch.object(work.Meter, "called", lambda *_: None):
            return ours()

    mine, plain, forwards = paired(ours, without, bare, rounds=rounds)
    return [
        row("GRU 256, M = 10,000: over bare steps", mine, forwards, 1.25, peer_over_ours=False),
        row("cost of certificate and counters", mine, plain, 1.03, peer_over_ours=False),
    ]


class Hashed:
    """A step function of four tokens whose scores are a hash of the whole history."""

    normalized = False

    def __init__(self, seed: int, scale: float):
        self.seed, self.scale = seed, scale

    def __call__(
        self, tokens: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = (state * 1_000_003 + tokens + 17) % (2**31 - 1)
        x = (h.unsqueeze(1) + self.seed) * 7919 + torch.arange(4) * 104_729
        x = (x ^ (x >> 7)) * 48_271 % (2**31 - 1)
        x = (x ^ (x >> 11)) * 69_621 % (2**31 - 1)
        return (x.double() + 1).div(2**31).log() * self.scale, h


def exact(T: int = 12, batch: int = 64) -> list[Row]:
    """Compare the expansions of exact search with the number of prefixes that it must expand.

    These are the prefixes that score above the optimum.
    """
    rows = []
    for seed, scale in ((0, 2.0), (1, 1.0), (2, 3.0)):
        problem = decoding.Problem(
            Hashed(seed, scale), torch.zeros(1, dtype=torch.int64), torch.tensor([0])
        )
        decoded = decoding.exact_search(*problem, max_length=T, batch=batch)
        above, best = brute_force(problem, T, float(decoded.log_prob[0, 0]))
        same = abs(best - float(decoded.log_prob[0, 0])) < 1e-9
        limit = above + batch * T
        search = f"exact search, 4 tokens, T = {T}, seed {seed}"
        verdict = "equal" if same else "not equal"
        rows.append(
            {
                "work": f"{search}: rows expanded, and prefixes that must be expanded",
                "measured": f"{decoded.work.rows} rows, {above} prefixes; {verdict} to brute force",
                "bar": f"equal to brute force; at most {limit} rows",
                "met": same and decoded.work.rows <= limit,
            }
        )
    return rows


def brute_force(problem: decoding.Problem, T: int, optimum: float) -> tuple[int, float]:
    """Return the number of prefixes that score above the optimum, and the best score.

    All sequences are enumerated level by level.
    """
    step, state, tokens = problem
    total, above = torch.zeros(1, dtype=torch.float64), 0
    for _ in range(T):
        above += int((total > optimum).sum())
        scores, state = step(tokens, state)
        total = (total.unsqueeze(1) + scores.log_softmax(1)).flatten()
        tokens, state = torch.arange(4).repeat(len(state)), state.repeat_interleave(4)
    return above, float(total.max())


# For example: python -m benchmarks.decoding recurrent
if __name__ == "__main__":
    for result in measure(sys.argv[1:]):
        print(result)
