"""Section 3, beam search: a vocabulary of two words, beams of width two, sequences of three."""

from leadline.worksheet._criterion import AllOf, Criterion, Holds
from leadline.worksheet._statement import Statement

_STARRED = (
    "The course fixes the table's values but for those that we completed; the answer holds while "
    "p(network | network) < -0.73 and both p(neural | neural network) and p(neural | network "
    "neural) < -0.60."
)

STATEMENTS = (
    Statement(
        id="beam.a",
        number="3a",
        title="First step of the search",
        claim="After the first step the beam holds `neural` (-0.65) and `network` (-0.73).",
        course="exact",
        agrees="supported",
        measurement="Beam search of width 2 runs over the course's table with its trace switched "
        "on; the beam after step 1 is read from the trace.",
        criterion=Criterion(Holds("beam_after_step_1"), met="supported"),
        why="There is one hypothesis to extend, the empty one, so the beam is simply the two most "
        "likely first words.",
        condition=_STARRED,
        measure="leadline.worksheet.measurements.decoding:first_step",
    ),
    Statement(
        id="beam.b",
        number="3b",
        title="Second step of the search",
        claim="After the second step the beam holds `neural network` (-1.25) and `network neural` "
        "(-1.33).",
        course="exact",
        agrees="supported",
        measurement="As before; the beam after step 2.",
        criterion=Criterion(Holds("beam_after_step_2"), met="supported"),
        why="Four candidates compete for two places, and scores add up along a path. `neural "
        "neural` (-1.45) comes third: its first word was the better one, but its second costs more "
        "than either survivor's.",
        condition=_STARRED,
        measure="leadline.worksheet.measurements.decoding:second_step",
    ),
    Statement(
        id="beam.c",
        number="3c",
        title="Third step of the search",
        claim="After the third step the beam holds `neural network network` (-1.85) and `network "
        "neural network` (-1.93).",
        course="exact",
        agrees="supported",
        measurement="As before; the beam after step 3, which is also the answer of the search.",
        criterion=Criterion(Holds("beam_after_step_3"), met="supported"),
        why="Only descendants of what was kept can be found. Nothing that starts with `neural "
        "neural` is left to extend.",
        condition=_STARRED,
        measure="leadline.worksheet.measurements.decoding:third_step",
    ),
    Statement(
        id="beam.d",
        number="3d",
        title="The search misses the best sequence",
        claim="Beam search misses the most likely sequence here: it starts with `neural neural`, "
        "scores -1.46, and was lost at the second step.",
        course="true",
        agrees="supported",
        measurement="Exact and exhaustive search find the optimum of the same table. The audit "
        "names the step at which it left the beam, its rank there, and the smallest width that "
        "returns it. Reported beside it, on a language model of real text: the search-error rate "
        "by width, from proved to possible errors (what a budget leaves open is possible, and "
        "never dropped), and how often the beam beats, equals and loses to greedy search.",
        criterion=Criterion(
            AllOf(
                Holds("optimum"), Holds("missed"), Holds("lost_at"), Holds("width_that_keeps_it")
            ),
            met="supported",
        ),
        why="Beam search decides by what a prefix has cost so far and cannot see that `neural "
        "neural` has an almost certain continuation (-0.01). The third place at step 2 would have "
        "been enough.",
        condition=_STARRED,
        measure="leadline.worksheet.measurements.decoding:missed_optimum",
    ),
    Statement(
        id="beam.e",
        number="3e",
        title="Cost of decoding",
        claim="With a recurrent network, decoding costs O(T k M log M) for width k and M words (k "
        "≤ M) when candidates are sorted, and less with better selection.",
        course="true",
        agrees="supported",
        measurement="Exact work counters over sweeps of length T, width k and vocabulary M. The "
        "course's bound: the candidates scored, each charged log M comparisons, against 1 · T k M "
        "log M, the counter checked against the model's own tally. Our bound: the comparisons of "
        "selecting each row's best first, against T (k M + 4 k² log k) (logarithms to base 2, at "
        "least 1). Greedy and exhaustive search beside it.",
        criterion=Criterion(
            AllOf(Holds("within_the_course_bound"), Holds("within_our_bound")), met="supported"
        ),
        why="Each step scores M continuations of k hypotheses. Sorting them all costs a logarithm "
        "that selection of the best k does not need: one pass over each row, and then k² "
        "candidates are left.",
        condition="Counters are exact; wall time also depends on caches and on the model itself. "
        "Selection saves comparisons while k² log k is small beside k M log M: not where the width "
        "is near the vocabulary.",
        measure="leadline.worksheet.measurements.cost:cost",
    ),
)
