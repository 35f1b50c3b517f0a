"""An earlier answer to start a search or an audit from, and the check that it fits."""

from dataclasses import dataclass
from typing import NamedTuple

from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._rescoring import check_belongs
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.models._constraints import is_constrained
from leadline.decoding.problem._model import Model
from leadline.decoding.problem._origin import origin
from leadline.decoding.problem._problem import Problem, Step
from leadline.errors import InputError


class UsablePart(NamedTuple):
    """The part of an earlier answer that a search may use."""

    decoded: Decoded | None
    is_trusted: bool
    """True if the answer's certificate holds for this problem."""
    calls: int
    """Number of calls that scoring the answer again took."""


NOTHING_USABLE = UsablePart(None, False, 0)


@dataclass(frozen=True)
class EarlierAnswer:
    """An earlier answer, with the names that errors about it mention."""

    decoded: Decoded
    argument: str = "at_least"
    """The name of the argument that holds the answer."""
    function: str = "exact_search()"
    """The name of the function that the caller called."""

    def usable_part(
        self, model: Model, settings: SearchSettings, max_calls: int | None
    ) -> UsablePart:
        """Return the part of the answer that a search may use.

        An answer to the same problem is used with its certificate. Any other answer is scored
        again, and its certificate is ignored: two problems that agree on one sequence may differ on
        others.

        Args:
            model: the model with its problem.
            settings: the settings of the current search.
            max_calls: its budget of calls for each item; ``None`` for no limit.

        Raises:
            InputError: the answer belongs to another problem, or was found with other settings.
        """
        decoded = self.decoded
        _check_settings(self, model, settings)
        if is_of_same_problem(model.problem, decoded):
            return UsablePart(decoded, True, 0)
        if not is_within(model.problem, decoded, max_calls):
            return NOTHING_USABLE
        check_belongs(model, decoded, self.argument, self.function)
        return UsablePart(decoded, False, _calls_to_score(decoded))


def is_of_same_problem(problem: Problem, decoded: Decoded) -> bool:
    """True if an answer is known to belong to this problem."""
    return decoded.origin.is_known and decoded.origin == origin(*problem)


def is_within(problem: Problem, decoded: Decoded, max_calls: int | None) -> bool:
    """True if a budget suffices to check that an answer belongs to a problem."""
    if max_calls is None or _calls_to_score(decoded) <= max_calls:
        return True
    return is_of_same_problem(problem, decoded)


def _calls_to_score(decoded: Decoded) -> int:
    """Return the number of calls that scoring the hypotheses takes: the length of the longest."""
    return int(decoded.lengths.max(initial=0))


def audited_answer(decoded: Decoded) -> EarlierAnswer:
    """Return the answer as the argument of :func:`audit`."""
    return EarlierAnswer(decoded, "decoded", "audit()")


def _check_settings(earlier: EarlierAnswer, model: Model, settings: SearchSettings) -> None:
    """Refuse an answer to other prompts, with other settings, or with processors of its own."""
    decoded = earlier.decoded
    found_with = _description(len(decoded.lengths), decoded.settings, model.step)
    needed = _description(model.batch, settings, model.step)
    if found_with != needed:
        raise InputError(
            f"{earlier.argument} must be an answer to the same prompts, "
            "with the same max_length, normalize and end tokens",
            got=f"{found_with} instead of {needed}",
        )
    processors = decoded.settings.processors
    if processors and not is_constrained(model.step):
        raise InputError(
            f"{earlier.argument} must be an answer to the same problem; processors are part of it",
            got=f"an answer under {', '.join(processors)}, and a problem without processors",
            cure="pass *decoding.constrain(step, state, start, processors) "
            "in place of the step function",
        )


def _description(num_prompts: int, settings: SearchSettings, step: Step) -> str:
    normalize = settings.normalize
    if normalize is None:
        normalize = not getattr(step, "normalized", False)
    return (
        f"{num_prompts} prompts, max_length = {settings.max_length}, normalize = {normalize}, "
        f"eos = {settings.eos}"
    )
