"""``leadline decode``: continue prompts by beam search, and check the answers."""

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from leadline.cli import DONE
from leadline.cli._decode_settings import DecodeSettings
from leadline.cli._lines import appending, check_output, count_answers, read_prompts
from leadline.cli._options import INPUT, OUTPUT, OutputSwitch, Switch, check_at_least
from leadline.errors import InputError, context
from leadline.sounding import decimals
from leadline.storage import json_line, lock_file

SEARCH = Group("Search", sort_key=2)
CHECKS = Group("Checks of the answers", sort_key=3)
"""Groups of options in the help."""

SEAL = "<!-- leadline trace, sha256 of the text above: {} -->\n"
"""Last line of a page that --trace writes. If someone edits the page, it no longer matches."""

PROGRESS_LINES = 20
"""Approximate number of lines of progress in a log file."""

PAGE_WIDTH = 96
"""Number of characters in a line of the page that --trace writes."""

if TYPE_CHECKING:
    from leadline.cli._models import TextModel
    from leadline.decoding import Decoded, Hypothesis, SearchAudit


def decode(
    *,
    model: Annotated[Path, Parameter(group=INPUT)],
    prompt: Annotated[str | None, Parameter(group=INPUT)] = None,
    input: Annotated[Path | None, Parameter(group=INPUT)] = None,  # noqa: A002  the option's name
    width: Annotated[int, Parameter(group=SEARCH)] = 5,
    max_length: Annotated[int, Parameter(group=SEARCH)] = 20,
    num_return: Annotated[int, Parameter(group=SEARCH)] = 1,
    score: Annotated[str, Parameter(group=SEARCH)] = "sum",
    batch: Annotated[int, Parameter(group=SEARCH)] = 32,
    exact: Annotated[Switch, Parameter(group=CHECKS)] = False,
    audit: Annotated[Switch, Parameter(group=CHECKS)] = False,
    max_calls: Annotated[int, Parameter(group=CHECKS)] = 1000,
    output: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    trace: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    json: OutputSwitch = False,
) -> int:
    """Continue a prompt, or a file of prompts, by beam search.

    Parameters
    ----------
    model
        Folder that RecurrentLM.save() wrote, or local folder of a Hugging Face model with its
        tokenizer.
    prompt
        Text to continue. Use either --prompt or --input.
    input
        JSON Lines file of prompts: one {"prompt": "...", "id": ...} per line. The id is optional.
    width
        Beam width: number of hypotheses kept after each step. 1 is greedy search.
    max_length
        Largest number of new tokens.
    num_return
        Number of answers per prompt, at most --width.
    score
        Score that ranks the answers: sum (of log-probabilities), length:A (the sum divided by
        length^A), gnmt:A (the sum divided by ((5 + length)/6)^A), or reward:R (the sum plus R nats
        per token).
    batch
        Number of prompts that are decoded together.
    exact
        Also search for the best possible answer, starting from the answer of the beam.
    audit
        Also report the step and the rank at which the beam lost the best answer, and the beam width
        that keeps it.
    max_calls
        Budget of --exact and --audit per prompt, in calls of the model. If it runs out, the best
        answer stays unknown.
    output
        JSON Lines file for the answers to --input. By default standard output.
    trace
        HTML file for the search tree of --prompt.
    json
        Print one JSON object instead of text.
    """
    settings = DecodeSettings(width, max_length, num_return, score, exact, audit, max_calls)
    if (prompt is None) == (input is None):
        raise InputError(
            "--prompt or --input must be given, but not both",
            got="both" if prompt is not None else "neither",
        )
    check_at_least(batch, "--batch")
    if input is None and output is not None:
        raise InputError(
            "--output needs --input",
            got=f"--output {output}",
            cure="add --input, or use --json",
        )
    if trace is not None and prompt is None:
        raise InputError(
            "--trace needs --prompt",
            got=f"--trace {trace} without --prompt",
            cure="leave --trace out, or use --prompt",
        )
    if trace is not None:
        _check_trace(trace)
    if prompt is not None:
        return _decode_prompt(model, _as_text(prompt), settings, trace, json)
    assert input is not None
    return _decode_file(model, input, output, settings, batch)


def _check_trace(trace: Path) -> None:
    """Refuse an existing file, unless --trace wrote it and it was not edited since."""
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
            "--trace must name a new file, or a page that an earlier --trace wrote",
            got=f"--trace {trace}, which is another file or was edited",
            cure="name another file, or move this one away",
        )


def _seal(text: bytes) -> bytes:
    """Return the last line of a page with this text."""
    return SEAL.format(hashlib.sha256(text).hexdigest()).encode()


@dataclass(frozen=True, eq=False)
class _Results:
    """Results for a batch of prompts."""

    decoded: "Decoded"
    optimum: "Decoded | None"
    audit: "SearchAudit | None"


def _search(
    model: "TextModel", prompts: Sequence[str], settings: DecodeSettings, trace: bool = False
) -> _Results:
    """Search for the answers to a batch of prompts, and check them."""
    from leadline import decoding

    beam = settings.beam()
    problem = model.problem(prompts)
    common: dict[str, Any] = {
        "max_length": beam.max_length,
        "eos": model.eos,
        "score": beam.score,
        "num_return": beam.num_return,
    }
    decoded = decoding.beam_search(*problem, width=beam.width, trace=trace, **common)
    audit = None
    if settings.audit:
        audit = decoding.audit(*problem, decoded, max_calls=settings.max_calls)
    optimum = audit.optimum if audit is not None else None
    if settings.exact and (optimum is None or beam.num_return > 1):
        optimum = decoding.exact_search(
            *problem, at_least=decoded, max_calls=settings.max_calls, **common
        )
    return _Results(decoded, optimum, audit)


def _decode_prompt(
    folder: Path, prompt: str, settings: DecodeSettings, trace: Path | None, as_json: bool
) -> int:
    """Answer one prompt, and print the answers."""
    from leadline.cli._models import load_model
    from leadline.storage import canonical_json, write

    settings.beam()  # refuses settings above the limits of the library before the model is loaded
    model = load_model(folder)
    model.check(prompt, settings.max_length, "--prompt")
    results = _search(model, [prompt], settings, trace=trace is not None)
    lines = _summary_lines(model, results)
    if trace is not None:
        text = _page(prompt, lines, results.audit or results.decoded)
        page = text.encode("utf-8", "backslashreplace")
        _check_trace(trace)  # another program may have written the file meanwhile
        write(trace, page + _seal(page))
        lines.append(f"trace: {trace}")
    if as_json:
        record = _record(model, {"prompt": prompt}, results, 0, settings)
        sys.stdout.write(canonical_json(record))
    else:
        print("\n".join(lines))
    return DONE


def _decode_file(
    folder: Path, source: Path, output: Path | None, settings: DecodeSettings, batch: int
) -> int:
    """Answer a file of prompts, and print the answers or append them to a file."""
    prompts = read_prompts(source)
    if output is None:
        return _decode_all(folder, source, prompts, None, settings, batch)
    check_output(output)
    if output.exists() and output.samefile(source):
        raise InputError(
            "--output and --input must be different files",
            got=f"--output {output} --input {source}",
            cure="name another file for --output",
        )
    with lock_file(output):
        return _decode_all(folder, source, prompts, output, settings, batch)


def _decode_all(
    folder: Path,
    source: Path,
    prompts: Sequence[tuple[int, Mapping[str, Any]]],
    output: Path | None,
    settings: DecodeSettings,
    batch: int,
) -> int:
    """Answer all prompts. The output file, if there is one, is already locked.

    Args:
        folder: folder of the model.
        source: file of the prompts.
        prompts: line number and entry of each prompt.
        output: file for the answers; ``None`` for standard output.
        settings: the settings.
        batch: number of prompts that are decoded together.
    """
    from leadline.cli._models import load_model
    from leadline.cli._progress import progress

    settings.beam()  # refuses settings above the limits of the library before the model is loaded
    model = load_model(folder)
    for number, entry in prompts:
        with context(f"in {source}, line {number}"):
            model.check(entry["prompt"], settings.max_length, "--input")
    entries = [entry for _, entry in prompts]
    num_done = 0
    if output is not None:
        num_done = count_answers(output, entries, settings.record(model))
    starts: Sequence[int] = ()
    if num_done < len(entries):
        # Batches start at multiples of their size, so a resumed run forms the same batches.
        starts = range(num_done - num_done % batch, len(entries), batch)
    period = max(1, math.ceil(len(starts) / PROGRESS_LINES))
    num_steps = math.ceil(len(starts) / period)
    with progress("decoding", num_steps) as advance, appending(output) as lines:
        for turn, first in enumerate(starts, 1):
            part = entries[first : first + batch]
            results = _search(model, [entry["prompt"] for entry in part], settings)
            records = [
                _record(model, entry, results, item, settings) for item, entry in enumerate(part)
            ]
            new_records = records[max(0, num_done - first) :]
            lines.append("".join(json_line(record) for record in new_records))
            if turn % period == 0 or turn == len(starts):
                advance(f"{first + len(part)} of {len(entries)} prompts")
    if output is not None:
        resumed = f" ({num_done} from an earlier run)" if num_done else ""
        print(f"{output}: {len(entries)} answers{resumed}")
    return DONE


def _as_text(prompt: str) -> str:
    """Return the prompt; refuse bytes that are not UTF-8."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise InputError("--prompt must be UTF-8 text", got=f"--prompt {prompt!r}") from None
    return prompt


def _record(
    model: "TextModel",
    entry: Mapping[str, Any],
    results: _Results,
    item: int,
    settings: DecodeSettings,
) -> dict[str, Any]:
    """Return the answers to one prompt as plain values for JSON.

    The cost of an item is left out, because the items of a batch share the calls of the model.
    """
    record = {**entry, **_answers(model, results.decoded, item)}
    if results.decoded.notes:
        record["notes"] = list(results.decoded.notes)
    if results.optimum is not None:
        record["exact"] = _answers(model, results.optimum, item)
    if results.audit is not None:
        numbers = {
            name: int(getattr(results.audit, name)[item]) or None
            for name in ("lost_step", "lost_rank", "width")
        }
        record["audit"] = {"outcome": results.audit.outcome[item], **numbers}
    return {**record, "settings": settings.record(model)}


def _answers(model: "TextModel", decoded: "Decoded", item: int) -> dict[str, Any]:
    """Return the hypotheses and the certificate of one prompt as plain values for JSON."""
    certificate = decoded.certificate
    gap = float(certificate.gap[item])
    upper_bound = float(certificate.upper_bound[item])
    return {
        "answers": [_hypothesis(model, hypothesis) for hypothesis in decoded.hypotheses(item)],
        "certificate": {
            "outcome": certificate.outcome[item],
            "gap": _finite(gap),
            "upper_bound": _finite(upper_bound),
        },
    }


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


def _summary_lines(model: "TextModel", results: _Results) -> list[str]:
    """Return the printed result for one prompt: hypotheses, certificates and audit."""
    decoded = results.decoded
    lines = [f"{decoded.settings.label}: {decoded.certificate}", *_answer_lines(model, decoded)]
    lines += [f"note: {note}" for note in decoded.notes]
    if results.optimum is not None:
        lines.append(f"exact search: {results.optimum.certificate}")
        lines += _answer_lines(model, results.optimum)
    if results.audit is not None:
        lines.append(f"audit: {results.audit.verdict}")
    return lines


def _answer_lines(model: "TextModel", decoded: "Decoded") -> Iterator[str]:
    """Yield one line for each hypothesis: log-probability, text and, if it differs, the score."""
    for hypothesis in decoded.hypotheses():
        log_prob = decimals(hypothesis.log_prob, "9.3f")
        text = model.text(hypothesis.tokens) or "(the end)"
        has_own_score = hypothesis.score != hypothesis.log_prob
        score = f"  (score {decimals(hypothesis.score, '.3f')})" if has_own_score else ""
        yield f"{log_prob}  {text}{score}"


def _page(prompt: str, lines: Sequence[str], sounding: "Decoded | SearchAudit") -> str:
    """Return a self-contained HTML page with the printed result and the search tree."""
    from textwrap import fill

    from leadline.report import Chapter, soundings_page

    text = "\n".join(fill(line, PAGE_WIDTH, subsequent_indent=" " * 11) for line in lines)
    tree = Chapter("Search tree", (), [sounding.figure()], sounding.protocol, code=text)
    return soundings_page("Search tree of a prompt", f"Prompt: `{prompt}`", [tree])
