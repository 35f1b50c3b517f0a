"""Tests of models: transformers against ``generate``, the language model, and processors."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from leadline import InputError, SaveError, decoding
from leadline.data._text import manual_text
from leadline.decoding import RecurrentLM

from .models import Hashed, everything


@pytest.fixture(scope="module", params=["gpt2", "llama", "bart", "mistral"])
def model(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if request.param == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=211,
                n_positions=64,
                n_embd=32,
                n_layer=2,
                n_head=2,
                initializer_range=0.3,
                bos_token_id=None,
                eos_token_id=None,
            )
            built = transformers.GPT2LMHeadModel(config)
        elif request.param == "llama":
            config = transformers.LlamaConfig(
                vocab_size=211,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.3,
                bos_token_id=None,
                eos_token_id=None,
            )
            built = transformers.LlamaForCausalLM(config)
        elif request.param == "mistral":  # its window is shorter than prompt and answer
            config = transformers.MistralConfig(
                vocab_size=211,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.3,
                sliding_window=5,
                bos_token_id=None,
                eos_token_id=None,
            )
            built = transformers.MistralForCausalLM(config)
        else:
            config = transformers.BartConfig(
                vocab_size=211,
                d_model=32,
                encoder_layers=1,
                decoder_layers=2,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                max_position_embeddings=64,
                init_std=0.4,
                forced_eos_token_id=None,
                eos_token_id=None,
                decoder_start_token_id=2,
            )
            built = transformers.BartForConditionalGeneration(config)
    return built.double().eval()


@pytest.fixture(scope="module")
def prompts():
    ids = torch.randint(3, 211, (3, 8), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :3] = mask[2, :1] = 0
    return ids, mask


@pytest.mark.parametrize("padded", [False, True])
def test_beam_search_returns_the_tokens_of_generate(model, prompts, padded):
    ids, mask = prompts
    mask = mask if padded else torch.ones_like(ids)
    generated = model.generate(
        ids,
        attention_mask=mask,
        num_beams=4,
        max_new_tokens=12,
        do_sample=False,
        length_penalty=1.0,
        pad_token_id=0,
        early_stopping=False,
        eos_token_id=None,
    )[:, -12:]
    score = decoding.LengthNormalized(1.0)
    decoded = decoding.beam_search(
        *decoding.huggingface(model, ids, mask), width=4, max_length=12, score=score
    )
    assert decoded.tokens[:, 0].tolist() == generated.tolist()


def test_left_padding_does_not_change_the_answers(model, prompts):
    if model.config.is_encoder_decoder:
        pytest.skip("the prompts of an encoder may be padded on either side")
    ids, mask = prompts
    together = decoding.beam_search(
        *decoding.huggingface(model, ids, mask), width=3, max_length=8, eos=7
    )
    single = decoding.beam_search(
        *decoding.huggingface(model, ids[:1, 3:]), width=3, max_length=8, eos=7
    )
    assert single.hypotheses()[0].tokens == together.hypotheses(0)[0].tokens
    assert single.log_prob[0] == pytest.approx(together.log_prob[0], abs=1e-10)


def test_positions_are_counted_as_in_generate(prompts):
    """By default, RoBERTa counts positions from its padding token, and counts padding."""
    config = transformers.RobertaConfig(
        vocab_size=211,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
        max_position_embeddings=64,
        is_decoder=True,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        roberta = transformers.RobertaForCausalLM(config).double().eval()
    test_beam_search_returns_the_tokens_of_generate(roberta, prompts, padded=True)
    test_beam_search_returns_the_tokens_of_generate(roberta, prompts, padded=False)
    test_left_padding_does_not_change_the_answers(roberta, prompts)


def test_every_search_agrees_on_a_transformer(model, prompts):
    ids, mask = prompts
    problem = decoding.huggingface(model, ids, mask)
    exact = decoding.exact_search(*problem, max_length=2, batch=16)
    exhaustive = decoding.exhaustive_search(*problem, max_length=2)
    wide = decoding.beam_search(*problem, width=211, max_length=2)
    assert exact.log_prob[:, 0] == pytest.approx(exhaustive.log_prob[:, 0], abs=1e-10)
    assert wide.log_prob[:, 0] == pytest.approx(exhaustive.log_prob[:, 0], abs=1e-10)
    assert decoding.greedy(*problem, max_length=5).tokens.shape == (3, 1, 5)
    assert decoding.sample(*problem, num=2, max_length=5).tokens.shape == (3, 2, 5)


def test_huggingface_refuses_bad_input(model, prompts):
    ids, mask = prompts
    with pytest.raises(InputError, match="int64"):
        decoding.huggingface(model, ids.float())
    with pytest.raises(InputError, match="shape of input_ids"):
        decoding.huggingface(model, ids, mask[:, 1:])
    with pytest.raises(InputError, match="float32"):
        decoding.huggingface(model, ids, mask.float())
    with pytest.raises(InputError, match="a list"):
        decoding.huggingface(model, ids.tolist())
    with pytest.raises(InputError, match=r"211 tokens(.|\n)*input_ids\[1, 2\] = 211"):
        decoding.huggingface(
            model, ids.clone().index_put_((torch.tensor(1), torch.tensor(2)), torch.tensor(211))
        )
    with pytest.raises(InputError, match=r"attention_mask\[2\] is 0 everywhere"):
        decoding.huggingface(model, ids, mask * torch.tensor([[1], [1], [0]]))
    yes = decoding.beam_search(
        *decoding.huggingface(model, ids, mask.bool()), width=2, max_length=2
    )
    assert np.array_equal(
        yes.log_prob,
        decoding.beam_search(
            *decoding.huggingface(model, ids, mask), width=2, max_length=2
        ).log_prob,
    )
    if not model.config.is_encoder_decoder:
        with pytest.raises(InputError, match=r"no head(.|\n)*AutoModelForCausalLM"):
            decoding.greedy(*decoding.huggingface(model.base_model, ids), max_length=2)
    model.train()
    with pytest.raises(InputError, match=r"model\.eval\(\)"):
        decoding.huggingface(model, ids)
    model.eval()
    if not model.config.is_encoder_decoder:
        with pytest.raises(InputError, match="padded on the left"):
            decoding.huggingface(model, ids, mask.flip(1))
    if model.config.model_type in (
        "gpt2",
        "bart",
    ):  # the other models have rotary positions, without a limit
        with pytest.raises(InputError, match="64 positions"):
            decoding.greedy(*decoding.huggingface(model, ids), max_length=65)


def test_a_model_with_other_states_than_keys_and_values_is_refused():
    with torch.random.fork_rng():
        model = transformers.MambaForCausalLM(
            transformers.MambaConfig(
                vocab_size=11, hidden_size=8, num_hidden_layers=1, state_size=4
            )
        )
    with pytest.raises(InputError, match="layers of type linear_attention"):
        decoding.huggingface(model.eval(), torch.tensor([[1, 2]]))


def test_a_model_can_be_trained_after_decoding(model, prompts):
    """No tensor of inference mode remains in the model, and scores may be changed in place."""

    def forbid_three(log_probs, prefix):
        return log_probs.index_fill_(1, torch.tensor([3]), -torch.inf)

    problem = decoding.huggingface(model, *prompts)
    step, state, start = problem
    step(start, state.select(torch.arange(3)))[0].add_(1.0)
    decoded = decoding.beam_search(*problem, width=2, max_length=4, processors=[forbid_three])
    assert 3 not in decoded.tokens
    model(input_ids=prompts[0]).logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad(set_to_none=True)


@pytest.fixture(scope="module")
def lm():
    return RecurrentLM(vocabulary_size=300, hidden_size=48, epochs=5, batch_size=8, seed=3).fit(
        manual_text().text[:120_000]
    )


def test_the_language_model_beats_the_counting_models(lm):
    assert lm.perplexity.model < lm.perplexity.bigram < lm.perplexity.unigram
    assert len(lm.vocabulary) == 300


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_language_model_decodes_and_can_be_saved_and_loaded(tmp_path, cell):
    text = "the cat sat on the mat .\n\nthe dog sat on the log .\n\n" * 20
    lm = RecurrentLM(
        vocabulary_size=12, hidden_size=12, num_layers=2, epochs=6, batch_size=4, cell=cell, seed=1
    ).fit(text)
    problem = lm.problem(["the cat sat", "", "the dog"])
    decoded = decoding.beam_search(*problem, width=3, max_length=8, eos=lm.end)
    single = decoding.beam_search(*lm.problem(["the dog"]), width=3, max_length=8, eos=lm.end)
    assert single.hypotheses()[0].words == decoded.hypotheses(2)[0].words
    exact = decoding.exact_search(*problem, max_length=4, eos=lm.end)
    assert exact.log_prob[:, 0] == pytest.approx(
        decoding.exhaustive_search(*problem, max_length=4, eos=lm.end).log_prob[:, 0], abs=1e-5
    )
    lm.save(tmp_path)
    back = RecurrentLM.load(tmp_path)
    assert back.perplexity == lm.perplexity
    repeated = decoding.beam_search(
        *back.problem(["the cat sat", "", "the dog"]), width=3, max_length=8, eos=lm.end
    )
    assert np.array_equal(repeated.log_prob, decoded.log_prob)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    RecurrentLM(vocabulary_size=12, hidden_size=12, epochs=1, seed=2).fit(text).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "the weights of the earlier model were not removed"


@pytest.fixture(scope="module")
def saved():
    return RecurrentLM(vocabulary_size=8, hidden_size=4, epochs=1, seed=1).fit(
        "a b a b\n\nb a b a\n\n" * 4
    )


def edit(folder, change):
    path = folder / "language_model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


DAMAGE = {
    "nothing there": (
        lambda folder: (folder / "language_model.json").unlink(),
        "no readable language model",
    ),
    "not JSON": (
        lambda folder: (folder / "language_model.json").write_text("{"),
        "no readable language model",
    ),
    "another release": (
        lambda folder: edit(folder, lambda d: d.update(schema=7)),
        "schema 7; this release reads schemas 1 and 2",
    ),
    "no schema": (lambda folder: edit(folder, lambda d: d.pop("schema")), "schema None"),
    "another shape": (
        lambda folder: edit(folder, lambda d: d["settings"].update(hidden_size=5)),
        "not those of its settings",
    ),
    "unknown setting": (
        lambda folder: edit(folder, lambda d: d["settings"].update(depth=5)),
        "depth",
    ),
    "changed weights": (
        lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"\0" * 64),
        "has changed since it was written",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_language_model_is_refused(name, saved, tmp_path):
    damage, text = DAMAGE[name]
    saved.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(SaveError, match=text):
        RecurrentLM.load(tmp_path)


def test_unknown_words_are_named(saved):
    assert saved.unknown("A zebra b zebra !") == ("zebra", "!")


def test_equal_seeds_give_equal_models_of_characters():
    text = "abab abab\n\nbaba baba\n\n" * 10
    first, second = (
        RecurrentLM(level="character", vocabulary_size=9, hidden_size=8, epochs=2, seed=4).fit(text)
        for _ in range(2)
    )
    assert first.perplexity == second.perplexity
    assert set("ab ") <= set(first.vocabulary)
    for ask in (lambda: RecurrentLM().problem(["a"]), lambda: RecurrentLM().save("never")):
        with pytest.raises(InputError, match="must be fitted before"):
            ask()
    with pytest.raises(InputError, match=r"problem\(\['ab'\]\)"):
        first.problem("ab")
    with pytest.raises(InputError, match="one text or more"):
        first.problem([])
    bad = {"vocabulary_size": 2, "dropout": 1.0, "held_out": 0.0}
    for name, value in bad.items():
        with pytest.raises(InputError, match=f"{name} = {value}"):
            RecurrentLM(**{name: value})
    with pytest.raises(InputError, match="window must be a whole number from 1"):
        RecurrentLM(window=0)
    assert (
        RecurrentLM(vocabulary_size=5, hidden_size=4, epochs=1, held_out=0.99)
        .fit("a b\n\nb a a")
        .perplexity
        is not None
    )
    with pytest.raises(InputError, match="two paragraphs or more"):
        RecurrentLM().fit("one")
    with pytest.raises(InputError, match="cell must be 'lstm' or 'gru'"):
        RecurrentLM(cell="elman")


def only(log_prob_of, keep):
    return {tokens: log_prob for tokens, log_prob in log_prob_of.items() if keep(tokens)}


RULES = {
    "forbid": (lambda: decoding.forbid([1]), lambda tokens: 1 not in tokens),
    "min_length": (lambda: decoding.min_length(3, 0), lambda tokens: 0 not in tokens[:2]),
    "bigrams": (
        lambda: decoding.no_repeat_ngram(2),
        lambda tokens: len(set(pairwise(tokens))) == len(tokens) - 1,
    ),
    "unigrams": (
        lambda: decoding.no_repeat_ngram(1),
        lambda tokens: len(set(tokens)) == len(tokens),
    ),
    "allow": (
        lambda: decoding.allow(lambda prefix: [0, 2] if len(prefix) % 2 else [1, 3]),
        lambda tokens: all(
            token in ((0, 2) if i % 2 else (1, 3)) for i, token in enumerate(tokens)
        ),
    ),
    "force": (lambda: decoding.force_prefix([3, 2]), lambda tokens: tokens[:2] == (3, 2)),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("eos", [(), (0,)])
def test_processors_mask_and_never_renormalise(name, eos):
    """Searches return the best allowed sequences with their unconstrained log-probabilities."""
    make, keep = RULES[name]
    problem = Hashed(4, 6).problem()
    truth = only(everything(problem, 0, 4, 4, eos), keep)
    decoded = decoding.beam_search(
        *problem, width=64, max_length=4, eos=eos, processors=[make()], num_return=64
    )
    assert {h.tokens: pytest.approx(h.log_prob, abs=1e-9) for h in decoded.hypotheses()} == dict(
        sorted(truth.items(), key=lambda pair: -pair[1])[:64]
    )
    constrained = decoding.constrain(*problem, [make()], normalize=True)
    keys = {"width": 64, "max_length": 4, "eos": eos}
    explicit = decoding.beam_search(*problem, **keys, processors=[make()], normalize=True)
    assert decoding.audit(*constrained, explicit).optimum.score[0, 0] == pytest.approx(
        max(truth.values()), abs=1e-9
    )
    exact = decoding.exact_search(*constrained, max_length=4, eos=eos)
    assert exact.log_prob[0, 0] == pytest.approx(max(truth.values()), abs=1e-9)


def renormalise_in_place(log_probs, prefix):
    log_probs[:, 0] = -torch.inf
    log_probs -= log_probs.logsumexp(1, keepdim=True)
    return log_probs


@pytest.mark.parametrize(
    ("processor", "text"),
    [
        (renormalise_in_place, "renormalise_in_place made"),
        (lambda log_probs, prefix: log_probs + 0.1, "leave the others unchanged"),
        (lambda log_probs, prefix: log_probs.exp(), "only mask"),
        (lambda log_probs, prefix: log_probs[:, :2], r"returned \(1, 2\)"),
        (decoding.forbid([1, 4]), "token 4 in forbid, vocabulary of 4 tokens"),
        (decoding.forbid([-1]), "token -1 in forbid"),
        (decoding.min_length(2, 9), "token 9 in min_length"),
        (decoding.allow(lambda prefix: [0, -2]), "token -2 in allow"),
        (decoding.force_prefix([1, 7]), "token 7 in force_prefix"),
    ],
)
def test_processors_that_do_more_than_mask_are_refused(processor: Any, text):
    with pytest.raises(InputError, match=text):
        decoding.beam_search(*Hashed(4).problem(), width=2, max_length=3, processors=[processor])
    with pytest.raises(InputError, match=r"a sequence of functions(.|\n)*processors=\["):
        decoding.beam_search(*Hashed(4).problem(), width=2, max_length=3, processors=processor)


def test_reordered_hypotheses_score_like_copied_ones(model, prompts):
    """Rows that are reordered in place score like copies, also after select() and concat().

    Only the positions at which a row differs from the row that replaces it are written.
    """
    step, prompt, start = decoding.huggingface(model, *prompts)
    _, prompt = step(start, prompt)
    items = torch.arange(3).repeat_interleave(4)
    moved, copied = prompt.select(items), prompt.select(items)
    g = torch.Generator().manual_seed(0)
    read = [list[object]() for _ in items]
    for turn in range(6):
        tokens = torch.randint(3, 211, (12,), generator=g)
        (a, moved), (b, copied) = step(tokens, moved), step(tokens, copied)
        assert torch.allclose(a, b, rtol=0, atol=1e-10)
        for line in read:
            line.append(object())
        parents = items * 4 + torch.randint(0, 4, (12,), generator=g)  # rows of the same item
        if turn < 5:  # two rows stay, and two are overwritten by them
            parents = torch.cat(
                [item * 4 + torch.tensor([1, 1, 2, 1 + turn % 2]) for item in range(3)]
            )
        new = sum(
            a is not b for n, p in enumerate(parents) for a, b in zip(read[n], read[p], strict=True)
        )
        read = [read[p].copy() for p in parents]
        moved, written = moved.reorder(parents.tolist())
        copied = copied.select(parents)
        # Rows share the encoder's keys and values, so that only the decoder's are written.
        store = copied.stores[0]
        assert written == (
            new * store.nbytes // 12 // store.num_positions if turn < 5 else copied.nbytes
        )
    some = torch.tensor([7, 2, 2, 11])
    joined = [type(state).concat([state, state.select(some)]) for state in (moved, copied)]
    tokens = torch.randint(3, 211, (16,), generator=g)
    assert torch.allclose(*(step(tokens, state)[0] for state in joined), rtol=0, atol=1e-10)
