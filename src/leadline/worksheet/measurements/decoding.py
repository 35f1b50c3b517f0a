"""Measurements of section 3, by real searches over the course's two-word table."""

from leadline import decoding
from leadline.sounding import Protocol
from leadline.worksheet.answer import Answer
from leadline.worksheet.criterion import Fact
from leadline.worksheet.setting import Setting

COURSE_TABLE = decoding.Table(
    {
        (): {"neural": -0.65, "network": -0.73},
        ("neural",): {"neural": -0.80, "network": -0.60},
        ("network",): {"neural": -0.60, "network": -0.80},
        ("neural", "neural"): {"neural": -0.01, "network": -4.61},
        ("neural", "network"): {"neural": -0.80, "network": -0.60},
        ("network", "neural"): {"neural": -0.80, "network": -0.60},
        ("network", "network"): {"neural": -0.60, "network": -0.80},
    }
)
"""Log-probabilities of the next word given the words so far. The course's text fixes those after the start, after
``neural``, the first after ``network``, and the -0.60 after two different words; the others are our completion."""

WIDTH, LENGTH = 2, 3

SETTINGS = {"vocabulary": "neural, network", "width": WIDTH, "length": LENGTH}


def first_step(setting: Setting) -> Answer:
    """``beam.a``: what the beam holds after step 1."""
    return _beam_after(1, "beam.a", [("neural", -0.65), ("network", -0.73)])


def second_step(setting: Setting) -> Answer:
    """``beam.b``: what the beam holds after step 2."""
    return _beam_after(2, "beam.b", [("neural network", -1.25), ("network neural", -1.33)])


def third_step(setting: Setting) -> Answer:
    """``beam.c``: what the beam holds after step 3."""
    return _beam_after(3, "beam.c", [("neural network network", -1.85), ("network neural network", -1.93)])


def missed_optimum(setting: Setting) -> Answer:
    """``beam.d``: the optimum, by exact and by exhaustive search, and where the beam lost it."""
    problem = COURSE_TABLE.problem
    found = decoding.beam_search(*problem(), width=WIDTH, max_length=LENGTH, trace=True)
    audit = decoding.audit(*problem(), found)
    exact, brute = (
        h.hypotheses()[0] for h in (audit.optimum, decoding.exhaustive_search(*problem(), max_length=LENGTH))
    )
    answer = found.hypotheses()[0]
    step, rank, width = int(audit.lost_step[0]), int(audit.lost_rank[0]), int(audit.width[0])
    lost = " ".join(exact.words[:step])
    narrow, wide = (decoding.beam_search(*problem(), width=w, max_length=LENGTH) for w in (1, 3))
    same = "the same" if exact.tokens == brute.tokens else f"but exhaustive search finds {brute}"
    return Answer(
        protocol=Protocol(SETTINGS),
        statement_id="beam.d",
        sentence=f"the search returns `{' '.join(answer.words)}` ({answer.log_prob:.2f}); the most likely sequence is "
        f"`{' '.join(exact.words)}` ({exact.log_prob:.2f}), lost at step {step} at rank {rank}; "
        f"width {width} keeps it.",
        soundings={"audit": audit},
        facts={
            "optimum": Fact(
                "the most likely sequence starts with `neural neural` and scores -1.46",
                exact.words[:2] == ("neural", "neural")
                and exact.tokens == brute.tokens
                and round(exact.log_prob, 2) == round(brute.log_prob, 2) == -1.46,
                f"`{' '.join(exact.words)}` {exact.log_prob:.2f} by exact search; {same} by exhaustive search",
                "`neural neural` … -1.46 by both searches",
            ),
            "missed": Fact(
                "beam search does not return it",
                answer.tokens != exact.tokens and answer.log_prob < exact.log_prob,
                f"`{' '.join(answer.words)}` {answer.log_prob:.2f}",
                "another sequence, of lower log-probability",
            ),
            "lost_at": Fact(
                "it was lost at step 2, at rank 3",
                (step, rank) == (2, 3),
                f"its prefix `{lost}` left the beam at step {step}, at rank {rank}",
                "step 2, rank 3",
            ),
            "width_that_keeps_it": Fact(
                "the smallest width that returns it is 3", width == 3, f"width {width}", "width 3"
            ),
        },
        findings=(
            f"Without any call of the model beyond its own, the search of width {WIDTH} reports: {found.certificate}.",
            f"The search of width 3 reports: {wide.certificate}; greedy search returns {narrow.hypotheses()[0]}.",
        ),
    )


def _beam_after(step: int, statement_id: str, expected: list[tuple[str, float]]) -> Answer:
    search = decoding.beam_search(*COURSE_TABLE.problem(), width=WIDTH, max_length=LENGTH, trace=True)
    assert search.trace is not None
    # Seen up to this step; the search itself goes on to its full length.
    upto = decoding.beam_search(*COURSE_TABLE.problem(), width=WIDTH, max_length=step, num_return=WIDTH, trace=True)
    held = [(" ".join(node.words), round(node.log_prob, 9)) for node in search.trace.beam(step)]
    pruned = [node for node in search.trace.candidates(step) if node.fate is decoding.Fate.PRUNED]
    return Answer(
        protocol=Protocol(SETTINGS),
        statement_id=statement_id,
        sentence=f"after step {step} the beam holds {_listed(held)}.",
        soundings={"search": upto},
        facts={
            f"beam_after_step_{step}": Fact(
                f"the beam after step {step}, best first", held == expected, _listed(held), _listed(expected)
            )
        },
        findings=tuple(
            f"Pruned at this step, at rank {node.rank}: `{' '.join(node.words)}` ({node.log_prob:.2f})."
            for node in pruned
        ),
    )


def _listed(beam: list[tuple[str, float]]) -> str:
    return " and ".join(f"`{words}` ({log_prob:.2f})" for words, log_prob in beam)
