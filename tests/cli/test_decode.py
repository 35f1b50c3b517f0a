"""``leadline decode``: its two kinds of model, its errors, and resumed runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from leadline import cli, decoding

TEXT = "the cat sat on the mat .\n\nthe dog sat on the log .\n\na cat and a dog sat .\n\n" * 12
PROMPTS = ["the cat", "the dog", "a cat", "the dog sat", "on the", "the", "a dog and"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a RecurrentLM."""
    folder = tmp_path_factory.mktemp("model")
    decoding.RecurrentLM(vocabulary_size=14, hidden_size=12, epochs=4, batch_size=4, seed=1).fit(
        TEXT
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """The folder of a small transformer with random weights and a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("transformer")
    words = ["<unk>", "<end>", *sorted(set(TEXT.split()))]
    level = tokenizers.models.WordLevel(
        {word: i for i, word in enumerate(words)}, unk_token="<unk>"
    )
    tokenizer = tokenizers.Tokenizer(level)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>"
    )
    fast.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=len(words),
            n_positions=16,
            n_embd=16,
            n_layer=1,
            n_head=2,
            initializer_range=0.5,
            bos_token_id=1,
            eos_token_id=1,
        )
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def decode(*arguments) -> int:
    return cli.run(["decode", *map(str, arguments)])


def write_prompts(path: Path, prompts=PROMPTS) -> Path:
    path.write_text(
        "".join(json.dumps({"id": i, "prompt": prompt}) + "\n" for i, prompt in enumerate(prompts))
    )
    return path


def test_help_does_not_load_heavy_packages():
    heavy = "{'torch', 'plotly', 'pandas', 'transformers'}"
    code = (
        "import sys; from leadline.cli import run; assert run(['decode', '--help']) == 0;"
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--max-length" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("kind", ["folder", "transformer"])
def test_one_prompt_gives_the_answer_of_the_library(kind, request, capsys):
    place = request.getfixturevalue(kind)
    arguments = (
        "--model",
        place,
        "--prompt",
        "the cat",
        "--width",
        2,
        "--max-length",
        5,
        "--num-return",
        2,
    )
    assert decode(*arguments, "--audit", "--json") == cli.DONE
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    if kind == "folder":
        lm = decoding.RecurrentLM.load(place)
        problem, eos = lm.problem(["the cat"]), lm.end
    else:
        model = transformers.GPT2LMHeadModel.from_pretrained(place).eval()
        ids = transformers.AutoTokenizer.from_pretrained(place)("the cat", return_tensors="pt")[
            "input_ids"
        ]
        problem, eos = decoding.huggingface(model, ids), 1
    beam = decoding.beam_search(*problem, width=2, max_length=5, eos=eos, num_return=2)
    audit = decoding.audit(*problem, beam)
    assert [answer["tokens"] for answer in record["answers"]] == [
        list(h.tokens) for h in beam.hypotheses()
    ]
    assert [answer["log_prob"] for answer in record["answers"]] == pytest.approx(
        [h.log_prob for h in beam.hypotheses()]
    )
    assert record["exact"]["answers"][0]["tokens"] == list(audit.optimum.hypotheses()[0].tokens)
    assert record["exact"]["certificate"] == {
        "outcome": "OPTIMAL",
        "gap": 0.0,
        "upper_bound": None,
    } or (record["exact"]["certificate"]["outcome"] == "OPTIMAL")
    assert record["audit"]["outcome"] == audit.outcome[0]
    assert record["audit"]["width"] == (int(audit.width[0]) or None)
    assert "<end>" not in record["answers"][0]["text"]
    assert decode(*arguments, "--exact") == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"beam search (width 2): {beam.certificate}"
    assert any(line.startswith("exact search: proved optimal") for line in lines)
    assert decode(*arguments, "--exact", "--audit") == cli.DONE
    assert capsys.readouterr().out.splitlines()[:-1] == lines, "an audit takes nothing away"


def test_the_trace_is_one_self_contained_page(folder, tmp_path, capsys):
    page = tmp_path / "new" / "tree.html"
    assert (
        decode("--model", folder, "--prompt", "the cat", "--width", 2, "--audit", "--trace", page)
        == cli.DONE
    )
    content = page.read_text()
    for text in (
        "<code>the cat</code>",
        "audit: beam search returned",
        "search tree of a prompt",
        'data-figure="figure-0-0"',
    ):
        assert text.lower() in content.lower()
    assert "default-src 'none'" in content
    assert not re.search(r'<link|<(script|img|iframe)[^>]* src="', content.partition("<body>")[0])
    assert 'src="http' not in content
    assert f"trace: {page}" in capsys.readouterr().out


def test_a_trace_replaces_only_an_unchanged_trace(folder, tmp_path, capsys):
    page = tmp_path / "tree.html"
    command = (
        "--model",
        folder,
        "--prompt",
        "the cat",
        "--width",
        2,
        "--max-length",
        2,
        "--trace",
        page,
    )
    for _ in range(2):
        assert decode(*command) == cli.DONE
    for change in (
        lambda text: text.replace("width", "my width", 1),
        lambda text: text + "mine",
        lambda text: "",
    ):
        changed = change(page.read_text())
        (tmp_path / "changed.html").write_text(changed)
        assert decode(*command[:-1], tmp_path / "changed.html") == cli.BAD_USAGE
        assert (
            "--trace must name a new file, or a page that an earlier --trace wrote"
            in capsys.readouterr().err
        )
        assert (tmp_path / "changed.html").read_text() == changed


@pytest.mark.parametrize("score", ["sum", "length:1", "gnmt:0.6", "reward:0.5"])
def test_each_score_name_gives_its_score(score, folder, capsys):
    assert (
        decode("--model", folder, "--prompt", "the", "--score", score, "--json", "--max-length", 6)
        == cli.DONE
    )
    record = json.loads(capsys.readouterr().out)
    kinds = {
        "sum": decoding.SumLogProb(),
        "length:1": decoding.LengthNormalized(1.0),
        "gnmt:0.6": decoding.GNMT(0.6),
        "reward:0.5": decoding.WordReward(0.5),
    }
    (best,) = record["answers"]
    assert best["score"] == pytest.approx(kinds[score](best["log_prob"], len(best["tokens"])))
    assert record["settings"]["score"] == score


@pytest.mark.parametrize("kind", ["folder", "transformer"])
def test_a_file_of_prompts_gives_the_same_answers_as_single_prompts(
    kind, request, tmp_path, capsys
):
    place, source, output = (
        request.getfixturevalue(kind),
        write_prompts(tmp_path / "in.jsonl"),
        tmp_path / "out.jsonl",
    )
    keys = ("--model", place, "--width", 3, "--max-length", 4, "--audit")
    assert decode(*keys, "--input", source, "--output", output, "--batch", 3) == cli.DONE
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == f"[3/3] {len(PROMPTS)} of {len(PROMPTS)} prompts"
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["id"] for record in records] == list(range(len(PROMPTS)))
    for prompt, record in zip(PROMPTS, records, strict=True):
        assert decode(*keys, "--prompt", prompt, "--json") == cli.DONE
        alone = json.loads(capsys.readouterr().out)
        assert record["answers"][0]["tokens"] == alone["answers"][0]["tokens"]
        assert record["answers"][0]["log_prob"] == pytest.approx(
            alone["answers"][0]["log_prob"], abs=1e-5
        )
        assert (record["prompt"], record["audit"]) == (prompt, alone["audit"])
    assert decode(*keys, "--input", source) == cli.DONE
    assert len(capsys.readouterr().out.splitlines()) == len(PROMPTS)


@pytest.mark.parametrize(
    "cut", ["between lines", "inside a line", "before the last line's end", "inside a letter"]
)
def test_an_interrupted_run_resumes_after_its_last_complete_line(
    cut, folder, tmp_path, monkeypatch, capsys
):
    source, output = write_prompts(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    keys = (
        "--model",
        folder,
        "--width",
        2,
        "--max-length",
        4,
        "--input",
        source,
        "--batch",
        2,
        "--output",
    )
    assert decode(*keys, tmp_path / "whole.jsonl") == cli.DONE
    whole = (tmp_path / "whole.jsonl").read_bytes()

    searches, search = [], decoding.beam_search

    def interrupted(*args, **kwargs):
        searches.append(len(args[2]))
        if len(searches) == 3:
            raise KeyboardInterrupt
        return search(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "beam_search", interrupted)
        assert decode(*keys, output) == cli.INTERRUPTED
    assert output.read_bytes() == b"".join(whole.splitlines(keepends=True)[:4])
    lines = whole.splitlines(keepends=True)
    left = {
        "between lines": b"".join(lines[:3]),
        "inside a line": b"".join(lines[:3]) + lines[3][:40],
        "before the last line's end": b"".join(lines[:4])[:-1],
        "inside a letter": b"".join(lines[:3]) + lines[3][:80] + "é".encode()[:1],
    }
    output.write_bytes(left[cut])
    searches.clear()
    with monkeypatch.context() as patch:
        patch.setattr(
            decoding, "beam_search", lambda *a, **k: searches.append(len(a[2])) or search(*a, **k)
        )
        capsys.readouterr()
        assert decode(*keys, output) == cli.DONE
        assert searches == [2, 2, 1], "batches begin where they did"
        assert "7 answers (3 from an earlier run)" in capsys.readouterr().out
        assert output.read_bytes() == whole
        searches.clear()
        assert decode(*keys, output) == cli.DONE
        assert not searches
    assert output.read_bytes() == whole


CHANGED = {
    "other settings": (("--width", 3), lambda path: None),
    "another prompt": (
        (),
        lambda path: write_prompts(path.with_name("in.jsonl"), ["on the", *PROMPTS[1:]]),
    ),
    "fewer prompts": ((), lambda path: write_prompts(path.with_name("in.jsonl"), PROMPTS[:3])),
    "not an answer": ((), lambda path: path.write_text("notes\n" + path.read_text())),
    "without a line's end": ((), lambda path: path.write_text('{"my": "only copy"}')),
    "a copy of a prompt": ((), lambda path: path.write_text(json.dumps({"prompt": PROMPTS[0]}))),
    "more about a prompt": (
        (),
        lambda path: path.write_text(json.dumps({"prompt": PROMPTS[0], "by": "me"})),
    ),
    "more than answers": ((), lambda path: path.write_text(path.read_text() + "notes")),
}


@pytest.mark.parametrize("name", CHANGED)
def test_answers_of_two_runs_are_never_mixed(name, folder, tmp_path, capsys):
    source, output = write_prompts(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    keys = ("--model", folder, "--max-length", 3, "--input", source, "--output", output)
    assert decode(*keys) == cli.DONE
    more, change = CHANGED[name]
    change(output)
    before = output.read_bytes()
    assert decode(*keys, *more) == cli.BAD_USAGE
    assert (
        "--output must name a new file, or the answers of an interrupted run with the same prompts"
        in capsys.readouterr().err
    )
    assert output.read_bytes() == before


def test_a_full_disk_keeps_whole_lines(folder, tmp_path, monkeypatch, capsys):
    source, output = write_prompts(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    keys = (
        "--model",
        folder,
        "--max-length",
        3,
        "--input",
        source,
        "--output",
        output,
        "--batch",
        2,
    )
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert decode(*keys) == cli.FAILED
    assert "No space left on device; its complete lines are kept" in capsys.readouterr().err
    assert decode(*keys) == cli.DONE
    assert len(output.read_text().splitlines()) == len(PROMPTS)


REFUSED = {
    "no prompt": ((), "--prompt or --input must be given"),
    "two": (("--prompt", "the", "--input", "in.jsonl"), "--prompt or --input must be given"),
    "width": (("--prompt", "the", "--width", 0), "--width must be a whole number of at least 1"),
    "wide": (
        ("--prompt", "the", "--width", 10**9),
        "--width must be a whole number from 1 to 1000000",
    ),
    "length": (("--prompt", "the", "--max-length", 0), "--max-length must be a whole number"),
    "calls": (
        ("--prompt", "the", "--exact", "--max-calls", 0),
        "--max-calls must be a whole number",
    ),
    "batch": (("--input", "in.jsonl", "--batch", 0), "--batch must be a whole number"),
    "answers": (("--prompt", "the", "--num-return", 9), "--num-return 9 --width 5"),
    "score": (("--prompt", "the", "--score", "length:much"), "--score length:much"),
    "bare score": (("--prompt", "the", "--score", "gnmt"), "--score gnmt"),
    "output": (("--prompt", "the", "--output", "out.jsonl"), "--output needs --input"),
    "trace": (("--input", "in.jsonl", "--trace", "t.html"), "--trace needs --prompt"),
    "folder": (("--prompt", "the", "--trace", "."), "--trace must name a file"),
    "unknown words": (("--prompt", "the zebra and a quagga"), "'zebra', 'quagga' in the prompt"),
    "unknown": (("--prompt", "zebra"), "--prompt must contain only the 12 tokens"),
    "nowhere": (("--input", "nowhere.jsonl"), "--input nowhere.jsonl (No such file or directory)"),
    "itself": (
        ("--input", "in.jsonl", "--output", "in.jsonl"),
        "--output and --input must be different files",
    ),
    "line": (("--input", "broken.jsonl"), 'line 2 of broken.jsonl: {"prompt": 3}'),
    "not a number": (("--input", "nan.jsonl"), "NaN is not JSON"),
    "half a letter": (("--input", "half.jsonl"), "line 1 of half.jsonl"),
    "empty": (("--input", "empty.jsonl"), "--input must contain at least one prompt"),
    "unknown in a file": (
        ("--input", "zebra.jsonl", "--output", "new.jsonl"),
        "where: in zebra.jsonl, line 2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_usage_errors_come_before_any_file_is_written(name, folder, in_tmp_path, capsys):
    write_prompts(Path("in.jsonl"))
    Path("broken.jsonl").write_text('{"prompt": "the"}\n{"prompt": 3}\n')
    Path("nan.jsonl").write_text('{"prompt": "the", "id": NaN}\n')
    Path("half.jsonl").write_text('{"prompt": "\\ud800"}\n')
    Path("empty.jsonl").write_text("\n\n")
    Path("zebra.jsonl").write_text('{"prompt": "the"}\n{"prompt": "zebra"}\n')
    before = sorted(Path().iterdir())
    arguments, text = REFUSED[name]
    assert decode("--model", folder, *arguments) == cli.BAD_USAGE
    assert text in " ".join(capsys.readouterr().err.split())
    assert sorted(Path().iterdir()) == before


def test_an_invalid_model_folder_is_an_error_with_its_cause(
    folder, transformer, in_tmp_path, monkeypatch, capsys
):
    def error_of(place, code=cli.BAD_USAGE, prompt="the cat", *more) -> str:
        assert decode("--model", place, "--prompt", prompt, *more) == code
        return " ".join(capsys.readouterr().err.split())

    assert "Leadline reads local folders only" in error_of("gpt2")
    Path("empty").mkdir()
    assert "a folder without either" in error_of("empty")
    Path("damaged").mkdir()
    Path("damaged/language_model.json").write_text('{"schema": 9}')
    assert "this release reads schemas 1 and 2" in error_of("damaged", cli.FAILED)
    Path("bare").mkdir()
    Path("bare/config.json").write_text((transformer / "config.json").read_text())
    assert "no readable tokenizer" in error_of("bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        Path("bare", name).write_text((transformer / name).read_text())
    assert "weights in safetensors" in error_of("bare")
    assert "'zebra' in the prompt" in error_of(transformer, cli.BAD_USAGE, "the zebra")
    assert "at least one token" in error_of(transformer, cli.BAD_USAGE, "")
    error_of(transformer, cli.DONE, "the cat", "--max-length", 15)
    assert "16 positions" in error_of(transformer, cli.BAD_USAGE, "the cat", "--max-length", 16)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        assert "pip install 'leadline[hf]'" in error_of(transformer, cli.FAILED)


def test_an_empty_prompt_begins_a_paragraph(folder, capsys):
    assert decode("--model", folder, "--prompt", "", "--width", 3) == cli.DONE
    assert capsys.readouterr().out.startswith("beam search (width 3)")
