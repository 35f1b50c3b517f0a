"""An earlier answer that a search or an audit starts from, and whether it is an answer to the same problem."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from leadline.decoding.judging._origin import origin
from leadline.decoding.judging._rescoring import check_belongs
from leadline.decoding.models._constraints import is_constrained
from leadline.decoding.models._problem import Model, Problem, Step
from leadline.decoding.search._decoded import Decoded
from leadline.decoding.search._settings import SearchSettings
from leadline.errors import InputError

if TYPE_CHECKING:
    from leadline.decoding.search._exact import ExactSettings


class Known(NamedTuple):
    """The part of an earlier answer that a search may use."""

    decoded: Decoded | None
    is_trusted: bool
    """True if the answer's certificate is known to hold for this very problem."""
    calls: int
    """Calls that were spent on scoring the answer again."""


NOTHING_KNOWN = Known(None, False, 0)


@dataclass(frozen=True)
class Earlier:
    """An earlier answer, and the argument and function that a caller passed it by."""

    decoded: Decoded
    argument: str = "at_least"
    function: str = "exact_search()"

    def known(self, model: Model, settings: "ExactSettings") -> Known:
        """The part of the answer that may be used for a problem.

        An answer of the same step function to the same prompts is used as it is. Any other is scored again, and its
        certificate is not used: two problems that agree on one sequence may differ elsewhere.

        Args:
            model: the problem.
            settings: those of the present search.

        Raises:
            InputError: the answer is to another problem, or was found with other settings.
        """
        decoded = self.decoded
        _check_settings(decoded, model.step, model.batch, settings)
        if is_of_same_problem(model.problem, decoded):
            return Known(decoded, True, 0)
        if not is_within(model.problem, decoded, settings.max_calls):
            return NOTHING_KNOWN
        check_belongs(model, decoded, self.argument, self.function)
        return Known(decoded, False, _calls_to_score(decoded))


def is_of_same_problem(problem: Problem, decoded: Decoded) -> bool:
    """True if an answer is known to be to this very problem."""
    return decoded.origin.is_known and decoded.origin == origin(*problem)


def is_within(problem: Problem, decoded: Decoded, max_calls: int | None) -> bool:
    """True if a budget reaches to recognise an answer."""
    return (
        max_calls is None
        or _calls_to_score(decoded) <= max_calls
        or is_of_same_problem(problem, decoded)
    )


def _calls_to_score(decoded: Decoded) -> int:
    return int(decoded.lengths.max(initial=0))


def audited(decoded: Decoded) -> Earlier:
    """The answer that an audit was given."""
    return Earlier(decoded, "decoded", "audit()")


def _check_settings(at_least: Decoded, step: Step, batch: int, settings: SearchSettings) -> None:
    def described(prompts: int, of: SearchSettings) -> str:
        normalize = of.normalize
        if normalize is None:
            normalize = not getattr(step, "normalized", False)
        return (
            f"{prompts} prompts, max_length = {of.max_length}, normalize = {normalize}, "
            f"eos = {of.eos}"
        )

    theirs = described(len(at_least.lengths), at_least.settings)
    ours = described(batch, settings)
    if theirs != ours:
        raise InputError(
            "an earlier answer is one to the same prompts, with the same max_length, normalize and end tokens",
            got=f"{theirs} instead of {ours}",
        )
    processors = at_least.settings.processors
    if processors and not is_constrained(step):
        raise InputError(
            "an earlier answer is one to the same problem, and processors are part of it",
            got=f"an answer under {', '.join(processors)}, and a problem without",
            cure="pass *decoding.constrain(step, state, start, processors) in place of the step function",
        )
