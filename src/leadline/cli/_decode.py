"""``leadline decode``: continue prompts by beam search, and say whether there was a better answer."""

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli import DONE
from leadline.cli._lines import appending, check_output, read_prompts, whole_lines
from leadline.cli._output import Switch
from leadline.errors import InputError, context
from leadline.sounding import decimals
from leadline.storage import json_line, lock_file

SEAL = "<!-- leadline trace, sha256 of the text above: {} -->\n"
"""The last line of a page that --trace writes. A page that somebody has edited does not match its seal."""

if TYPE_CHECKING:
    from leadline.cli._models import TextModel
    from leadline.decoding import Decoded, Hypothesis, Score, SearchAudit


def decode(
    *,
    model: Path,
    prompt: str | None = None,
    input: Path | None = None,  # noqa: A002  the option's name
    output: Path | None = None,
    width: int = 5,
    max_length: int = 20,
    num_return: int = 1,
    score: str = "sum",
    exact: Switch = False,
    audit: Switch = False,
    max_calls: int = 1000,
    batch: int = 32,
    trace: Path | None = None,
    json: Switch = False,
) -> int:
    """Continue a prompt, or a file of prompts, by beam search, and say whether there was a better answer.

    Every answer comes with a certificate: it is proved to be the best, or the gap says how much better another one
    could be at most. With --input and --output, a run that was interrupted goes on where it stopped.

    Parameters
    ----------
    model
        A folder that RecurrentLM.save wrote, or a local folder of a Hugging Face model with its tokenizer.
    prompt
        The text to continue.
    input
        A file of JSON Lines instead: {"prompt": "...", "id": anything, if you like} on each.
    output
        Where the answers go, one JSON object per line in the order of the prompts; standard output by default.
    width
        Hypotheses that survive a step; 1 is greedy search.
    max_length
        New tokens at most.
    num_return
        Answers per prompt, at most the width.
    score
        What answers are compared by: sum (of log-probabilities), length:A (divided by length^A), gnmt:A, or reward:R
        (R nats per token).
    exact
        Also find the best answer there is, starting from the beam's.
    audit
        Also tell at which step the best answer was lost, at which rank, and the width that keeps it.
    max_calls
        Budget of exact search for each prompt, in calls of the model. Where it runs out, the answer is left open.
    batch
        Prompts that are decoded together.
    trace
        Draw the search tree of --prompt into this HTML file.
    json
        Print one JSON object instead of text.
    """
    plan = _Plan(width, max_length, num_return, score, exact, audit, max_calls)
    plan.check()
    if (prompt is None) == (input is None):
        raise InputError(
            "decode takes one of --prompt and --input",
            got="both" if prompt is not None else "neither",
        )
    if batch < 1:
        raise InputError("--batch must be at least 1", got=f"--batch {batch}")
    if input is None and output is not None:
        raise InputError(
            "--output belongs to --input",
            got=f"--output {output}",
            cure="give --input, or use --json",
        )
    if trace is not None and prompt is None:
        raise InputError(
            "--trace draws the tree of --prompt", got=f"--trace {trace} without --prompt"
        )
    if trace is not None:
        _check_trace(trace)
    if prompt is not None:
        return _one(model, _as_text(prompt), plan, trace, json)
    assert input is not None
    return _many(model, input, output, plan, batch)


def _check_trace(trace: Path) -> None:
    """Refuse to replace a file that --trace did not write, or that has changed since."""
    from leadline.storage import read

    try:
        page = read(trace)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            "--trace names a file", got=f"--trace {trace} ({error.strerror})"
        ) from None
    text, last = page[: -len(_seal(b""))], page[-len(_seal(b"")) :]
    if last != _seal(text):
        raise InputError(
            "--trace replaces only a page that --trace wrote",
            got=f"--trace {trace}, which is something else or has changed since",
            cure="name another file, or move this one away",
        )


def _seal(text: bytes) -> bytes:
    return SEAL.format(hashlib.sha256(text).hexdigest()).encode()


@dataclass(frozen=True)
class _Plan:
    """What is done with each prompt."""

    width: int
    max_length: int
    num_return: int
    score: str
    exact: bool
    audit: bool
    max_calls: int

    def check(self) -> None:
        for name in ("width", "max_length", "num_return", "max_calls"):
            if (value := getattr(self, name)) < 1:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} must be at least 1", got=f"{option} {value}")
        if self.num_return > self.width:
            raise InputError(
                "--num-return is at most the width",
                got=f"--num-return {self.num_return} --width {self.width}",
            )
        _parse_score(self.score)

    def settings(self, model: "TextModel") -> dict[str, Any]:
        """What an answer depends on; goes into every record, so that answers of two plans are never mixed."""
        budget = {"max_calls": self.max_calls} if self.exact or self.audit else {}
        return {
            "model": model.digest,
            "width": self.width,
            "max_length": self.max_length,
            "num_return": self.num_return,
            "score": self.score,
            "exact": self.exact,
            "audit": self.audit,
            **budget,
        }

    def score_function(self) -> "Score":
        from leadline import decoding

        name, value = _parse_score(self.score)
        if name == "sum":
            return decoding.SumLogProb()
        kind = {
            "length": decoding.LengthNormalized,
            "gnmt": decoding.GNMT,
            "reward": decoding.WordReward,
        }[name]
        return kind(value)


def _parse_score(text: str) -> tuple[str, float]:
    name, _, value = text.partition(":")
    try:
        number = float(value) if value else math.nan
    except ValueError:
        number = math.inf
    if (name == "sum" and not value) or (
        name in ("length", "gnmt", "reward") and math.isfinite(number)
    ):
        return name, number
    raise InputError(
        "--score is sum, length:A, gnmt:A or reward:R, A and R being numbers",
        got=f"--score {text}",
        cure="--score length:1 compares the mean per token",
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What was found for a batch of prompts."""

    decoded: "Decoded"
    optimum: "Decoded | None"
    audit: "SearchAudit | None"


def _search(model: "TextModel", prompts: Sequence[str], plan: _Plan, trace: bool = False) -> _Found:
    from leadline import decoding

    problem = model.problem(prompts)
    common: dict[str, Any] = {
        "max_length": plan.max_length,
        "eos": model.eos,
        "score": plan.score_function(),
    }
    decoded = decoding.beam_search(
        *problem, width=plan.width, num_return=plan.num_return, trace=trace, **common
    )
    audited = decoding.audit(*problem, decoded, max_calls=plan.max_calls) if plan.audit else None
    optimum = audited.optimum if audited is not None else None
    if plan.exact and (optimum is None or plan.num_return > 1):
        keys: dict[str, Any] = {
            **common,
            "max_calls": plan.max_calls,
            "num_return": plan.num_return,
        }
        optimum = decoding.exact_search(*problem, at_least=decoded, **keys)
    return _Found(decoded, optimum, audited)


def _one(folder: Path, prompt: str, plan: _Plan, trace: Path | None, as_json: bool) -> int:
    from leadline.cli._models import load_model
    from leadline.storage import canonical_json, write

    model = load_model(folder)
    model.check(prompt, plan.max_length)
    found = _search(model, [prompt], plan, trace=trace is not None)
    told = _told(model, found)
    if trace is not None:
        page = _page(prompt, told, found.audit or found.decoded).encode("utf-8", "backslashreplace")
        _check_trace(trace)  # another program may have written it meanwhile
        write(trace, page + _seal(page))
        told.append(f"trace: {trace}")
    if as_json:
        sys.stdout.write(canonical_json(_record(model, {"prompt": prompt}, found, 0, plan)))
    else:
        print("\n".join(told))
    return DONE


def _many(folder: Path, source: Path, output: Path | None, plan: _Plan, batch: int) -> int:
    asked = read_prompts(source)
    if output is None:
        return _answer(folder, source, asked, None, plan, batch)
    check_output(output)
    if output.exists() and output.samefile(source):
        raise InputError("--output is another file than --input", got=f"--output {output}")
    with lock_file(output):
        return _answer(folder, source, asked, output, plan, batch)


def _answer(
    folder: Path,
    source: Path,
    asked: Sequence[tuple[int, Mapping[str, Any]]],
    output: Path | None,
    plan: _Plan,
    batch: int,
) -> int:
    """Answer all prompts; an output file is locked already."""
    from leadline.cli._models import load_model
    from leadline.cli._progress import progress

    model = load_model(folder)
    for number, entry in asked:
        with context(f"in {source}, line {number}"):
            model.check(entry["prompt"], plan.max_length)
    entries = [entry for _, entry in asked]
    done = whole_lines(output, entries, plan.settings(model)) if output is not None else 0
    # Batches begin at multiples of their size, so that an answer has the same batch mates after an interruption.
    starts = range(done - done % batch, len(entries), batch) if done < len(entries) else ()
    every = max(1, math.ceil(len(starts) / 20))  # a log file is not to be flooded
    with progress("decoding", math.ceil(len(starts) / every)) as tell, appending(output) as lines:
        for turn, first in enumerate(starts, 1):
            part = entries[first : first + batch]
            found = _search(model, [entry["prompt"] for entry in part], plan)
            records = [_record(model, entry, found, item, plan) for item, entry in enumerate(part)]
            lines.append("".join(json_line(record) for record in records[max(0, done - first) :]))
            if turn % every == 0 or turn == len(starts):
                tell(f"{first + len(part)} of {len(entries)} prompts")
    if output is not None:
        kept = f", {done} of them from an earlier run" if done else ""
        print(f"{output}: {len(entries)} answers{kept}")
    return DONE


def _as_text(prompt: str) -> str:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise InputError("--prompt is text in UTF-8", got=f"--prompt {prompt!r}") from None
    return prompt


def _record(
    model: "TextModel", entry: Mapping[str, Any], found: _Found, item: int, plan: _Plan
) -> dict[str, Any]:
    """One answer as JSON. What an item cost is not told: the items of a batch share the calls of the model."""

    def listed(decoded: "Decoded") -> list[dict[str, Any]]:
        return [_hypothesis(model, hypothesis) for hypothesis in decoded.hypotheses(item)]

    def proof(decoded: "Decoded") -> dict[str, Any]:
        certificate = decoded.certificate
        gap, upper = float(certificate.gap[item]), float(certificate.upper_bound[item])
        return {
            "outcome": certificate.outcome[item],
            "gap": _finite(gap),
            "upper_bound": _finite(upper),
        }

    record = {**entry, "answers": listed(found.decoded), "certificate": proof(found.decoded)}
    if found.decoded.notes:
        record["notes"] = list(found.decoded.notes)
    if found.optimum is not None:
        record["exact"] = {"answers": listed(found.optimum), "certificate": proof(found.optimum)}
    if found.audit is not None:
        numbers = {
            name: int(getattr(found.audit, name)[item]) or None
            for name in ("lost_step", "lost_rank", "width")
        }
        record["audit"] = {"outcome": found.audit.outcome[item], **numbers}
    return {**record, "settings": plan.settings(model)}


def _hypothesis(model: "TextModel", hypothesis: "Hypothesis") -> dict[str, Any]:
    return {
        "text": model.say(hypothesis.tokens),
        "tokens": list(hypothesis.tokens),
        "log_prob": hypothesis.log_prob,
        "score": _finite(hypothesis.score),
        "finished": hypothesis.finished,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told(model: "TextModel", found: _Found) -> list[str]:
    """The answer to one prompt in lines: hypotheses with their log-probabilities, then what is known about them."""

    def answers(decoded: "Decoded") -> Iterator[str]:
        for h in decoded.hypotheses():
            scored = "" if h.score == h.log_prob else f"  (score {decimals(h.score, '.3f')})"
            yield f"{decimals(h.log_prob, '9.3f')}  {model.say(h.tokens) or '(the end)'}{scored}"

    decoded = found.decoded
    lines = [f"{decoded.settings.label}: {decoded.certificate}", *answers(decoded)]
    lines += [f"note: {note}" for note in decoded.notes]
    if found.optimum is not None:
        lines += [f"exact search: {found.optimum.certificate}", *answers(found.optimum)]
    return lines + ([f"audit: {found.audit.verdict}"] if found.audit is not None else [])


def _page(prompt: str, told: Sequence[str], sounding: "Decoded | SearchAudit") -> str:
    """One HTML file with everything inside: what was found, and the tree."""
    from textwrap import fill

    from leadline.report import Chapter, soundings_page

    lines = [fill(line, 96, subsequent_indent=" " * 11) for line in told]
    tree = Chapter(
        "The tree of the search", (), [sounding.figure()], sounding.protocol, code="\n".join(lines)
    )
    return soundings_page("What the search saw", f"Prompt: `{prompt}`", [tree])
