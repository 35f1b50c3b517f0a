"""``leadline decode``: continue prompts by beam search, and check the answers."""

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
"""Last line of a page that --trace writes. It no longer matches when the page was edited."""

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
    """Continue a prompt, or a file of prompts, by beam search.

    Each answer has a certificate: either it is proved to be the best, or the gap bounds how much
    better another answer could be. With --input and --output, an interrupted run resumes where it
    stopped.

    Parameters
    ----------
    model
        Folder that RecurrentLM.save() wrote, or local folder of a Hugging Face model with its
        tokenizer.
    prompt
        Text to continue.
    input
        JSON Lines file of prompts: one {"prompt": "...", "id": ...} per line; the id is optional.
    output
        JSON Lines file for the answers, in the order of the prompts. By default standard output.
    width
        Beam width: hypotheses kept after each step. 1 is greedy search.
    max_length
        Greatest number of new tokens.
    num_return
        Answers per prompt; at most the beam width.
    score
        Score that ranks the answers: sum (of log-probabilities), length:A (the sum divided by
        length^A), gnmt:A, or reward:R (the sum plus R nats per token).
    exact
        Also find the best possible answer, starting from the answer of the beam.
    audit
        Also report the step and rank at which the beam lost the best answer, and the width that
        keeps it.
    max_calls
        Budget of exact search per prompt, in calls of the model. If it runs out, the answer stays
        open.
    batch
        Number of prompts that are decoded together.
    trace
        Draw the search tree of --prompt into this HTML file.
    json
        Print one JSON object instead of text.
    """
    plan = _Plan(width, max_length, num_return, score, exact, audit, max_calls)
    plan.check()
    if (prompt is None) == (input is None):
        raise InputError(
            "decode takes either --prompt or --input",
            got="both" if prompt is not None else "neither",
        )
    if batch < 1:
        raise InputError("--batch must be at least 1", got=f"--batch {batch}")
    if input is None and output is not None:
        raise InputError(
            "--output needs --input",
            got=f"--output {output}",
            cure="give --input, or use --json",
        )
    if trace is not None and prompt is None:
        raise InputError("--trace needs --prompt", got=f"--trace {trace} without --prompt")
    if trace is not None:
        _check_trace(trace)
    if prompt is not None:
        return _one(model, _as_text(prompt), plan, trace, json)
    assert input is not None
    return _many(model, input, output, plan, batch)


def _check_trace(trace: Path) -> None:
    """Refuse an existing file, unless --trace wrote it and nobody has changed it since."""
    from leadline.storage import read

    try:
        page = read(trace)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            "--trace must name a file", got=f"--trace {trace} ({error.strerror})"
        ) from None
    text = page[: -len(_seal(b""))]
    last = page[-len(_seal(b"")) :]
    if last != _seal(text):
        raise InputError(
            "--trace replaces only a page that an earlier --trace wrote",
            got=f"--trace {trace}, which is another file or was edited",
            cure="name another file, or move this one away",
        )


def _seal(text: bytes) -> bytes:
    return SEAL.format(hashlib.sha256(text).hexdigest()).encode()


@dataclass(frozen=True)
class _Plan:
    """Settings of one run: the search, the score, and the checks of each answer."""

    width: int
    max_length: int
    num_return: int
    score: str
    exact: bool
    audit: bool
    max_calls: int

    def check(self) -> None:
        for name in ("width", "max_length", "num_return", "max_calls"):
            value = getattr(self, name)
            if value < 1:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} must be at least 1", got=f"{option} {value}")
        if self.num_return > self.width:
            raise InputError(
                "--num-return must be at most the beam width",
                got=f"--num-return {self.num_return} --width {self.width}",
            )
        _parse_score(self.score)

    def settings(self, model: "TextModel") -> dict[str, Any]:
        """Return everything on which an answer depends.

        Each record holds it, so a resumed run never mixes answers of different settings.
        """
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
        "--score must be sum, length:A, gnmt:A or reward:R, with numbers A and R",
        got=f"--score {text}",
        cure="--score length:1 compares the mean per token",
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """Results for a batch of prompts."""

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
    lines = _summary_lines(model, found)
    if trace is not None:
        page = _page(prompt, lines, found.audit or found.decoded).encode(
            "utf-8", "backslashreplace"
        )
        _check_trace(trace)  # another program may have written the file meanwhile
        write(trace, page + _seal(page))
        lines.append(f"trace: {trace}")
    if as_json:
        sys.stdout.write(canonical_json(_record(model, {"prompt": prompt}, found, 0, plan)))
    else:
        print("\n".join(lines))
    return DONE


def _many(folder: Path, source: Path, output: Path | None, plan: _Plan, batch: int) -> int:
    asked = read_prompts(source)
    if output is None:
        return _answer(folder, source, asked, None, plan, batch)
    check_output(output)
    if output.exists() and output.samefile(source):
        raise InputError("--output and --input must be different files", got=f"--output {output}")
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
    """Answer all prompts. The output file, if there is one, is locked already."""
    from leadline.cli._models import load_model
    from leadline.cli._progress import progress

    model = load_model(folder)
    for number, entry in asked:
        with context(f"in {source}, line {number}"):
            model.check(entry["prompt"], plan.max_length)
    entries = [entry for _, entry in asked]
    done = whole_lines(output, entries, plan.settings(model)) if output is not None else 0
    # Batches start at multiples of their size, so a resumed run forms the same batches.
    starts = range(done - done % batch, len(entries), batch) if done < len(entries) else ()
    every = max(1, math.ceil(len(starts) / 20))  # at most about 20 lines in a log file
    with (
        progress("decoding", math.ceil(len(starts) / every)) as advance,
        appending(output) as lines,
    ):
        for turn, first in enumerate(starts, 1):
            part = entries[first : first + batch]
            found = _search(model, [entry["prompt"] for entry in part], plan)
            records = [_record(model, entry, found, item, plan) for item, entry in enumerate(part)]
            lines.append("".join(json_line(record) for record in records[max(0, done - first) :]))
            if turn % every == 0 or turn == len(starts):
                advance(f"{first + len(part)} of {len(entries)} prompts")
    if output is not None:
        kept = f" ({done} from an earlier run)" if done else ""
        print(f"{output}: {len(entries)} answers{kept}")
    return DONE


def _as_text(prompt: str) -> str:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise InputError("--prompt must be UTF-8 text", got=f"--prompt {prompt!r}") from None
    return prompt


def _record(
    model: "TextModel", entry: Mapping[str, Any], found: _Found, item: int, plan: _Plan
) -> dict[str, Any]:
    """Return one answer as plain values for JSON.

    The cost of an item is left out, because the items of a batch share the calls of the model.
    """

    def listed(decoded: "Decoded") -> list[dict[str, Any]]:
        return [_hypothesis(model, hypothesis) for hypothesis in decoded.hypotheses(item)]

    def proof(decoded: "Decoded") -> dict[str, Any]:
        certificate = decoded.certificate
        gap = float(certificate.gap[item])
        upper_bound = float(certificate.upper_bound[item])
        return {
            "outcome": certificate.outcome[item],
            "gap": _finite(gap),
            "upper_bound": _finite(upper_bound),
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
        "text": model.text(hypothesis.tokens),
        "tokens": list(hypothesis.tokens),
        "log_prob": hypothesis.log_prob,
        "score": _finite(hypothesis.score),
        "finished": hypothesis.finished,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _summary_lines(model: "TextModel", found: _Found) -> list[str]:
    """Return the printed result for one prompt: hypotheses, certificates and audit."""

    def answers(decoded: "Decoded") -> Iterator[str]:
        for h in decoded.hypotheses():
            scored = "" if h.score == h.log_prob else f"  (score {decimals(h.score, '.3f')})"
            yield f"{decimals(h.log_prob, '9.3f')}  {model.text(h.tokens) or '(the end)'}{scored}"

    decoded = found.decoded
    lines = [f"{decoded.settings.label}: {decoded.certificate}", *answers(decoded)]
    lines += [f"note: {note}" for note in decoded.notes]
    if found.optimum is not None:
        lines += [f"exact search: {found.optimum.certificate}", *answers(found.optimum)]
    return lines + ([f"audit: {found.audit.verdict}"] if found.audit is not None else [])


def _page(prompt: str, lines: Sequence[str], sounding: "Decoded | SearchAudit") -> str:
    """Return a self-contained HTML page with the printed result and the search tree."""
    from textwrap import fill

    from leadline.report import Chapter, soundings_page

    text = "\n".join(fill(line, 96, subsequent_indent=" " * 11) for line in lines)
    tree = Chapter("Search tree", (), [sounding.figure()], sounding.protocol, code=text)
    return soundings_page("Search tree of a prompt", f"Prompt: `{prompt}`", [tree])
