"""Tests of Hugging Face models: wrappers, generation settings, and unsupported families."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from leadline import InputError, decoding
from leadline.decoding.models._hugging_face_checks import base_model


def randomised(model: Any) -> Any:
    """Give a model random weights that are large enough for different answers."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def build(make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(make())


SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def gpt2(**more: Any) -> Any:
    config = transformers.GPT2Config(
        vocab_size=60,
        n_positions=40,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
        **more,
    )
    return transformers.GPT2LMHeadModel(config)


def bart(**more: Any) -> Any:
    settings = {
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
        "eos_token_id": None,
        "bos_token_id": None,
    }
    config = transformers.BartConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=40,
        **{**settings, **more},
    )
    return transformers.BartForConditionalGeneration(config)


class Adapter(nn.Module):
    """A wrapper like those of peft, which passes on all arguments and attributes."""

    def __init__(self, model: Any):
        super().__init__()
        self.base_model: Any = nn.Module()
        self.base_model.model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            inside: Any = super().__getattr__("base_model")
            return getattr(inside.model, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model.model(*args, **kwargs)


class Named(nn.Module):
    """A wrapper that names some arguments and passes on the others."""

    def __init__(self, model: Any):
        super().__init__()
        self.inner = model

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


class Child(transformers.GPT2LMHeadModel):
    """A subclass that passes on all arguments."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def child(model: Any) -> Any:
    with torch.random.fork_rng():
        built = Child(model.config)
    built.load_state_dict(model.state_dict())
    return built.eval()


class Plain:
    """A callable object that is no module."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, **kwargs: Any) -> Any:
        return self.model(**kwargs)


WRAPPERS: dict[str, Any] = {
    "adapter": Adapter,
    "named": Named,
    "twice": lambda model: Named(Adapter(model)),
    "data parallel": nn.DataParallel,
    "compiled adapter": lambda model: torch.compile(Adapter(model), backend="eager"),
    "subclass": child,
    "callable": Plain,
}

IDS = torch.tensor([[0, 0, 0, 5, 6, 7], [8, 9, 11, 12, 13, 14]])
MASK = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


def log_prob_without_cache(model: Any, ids: torch.Tensor, tokens: tuple[int, ...]) -> float:
    """Return the log-probability of new tokens, by one pass without a cache or padding."""
    with torch.no_grad():
        logits = model(
            input_ids=torch.cat([ids, torch.tensor(tokens[:-1])])[None], use_cache=False
        ).logits[0]
    log_probs = logits.double().log_softmax(-1)[len(ids) - 1 :]
    return sum(float(log_probs[t, token]) for t, token in enumerate(tokens))


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.filterwarnings("ignore")
def test_a_wrapped_model_scores_padded_prompts_like_the_model_inside(name):
    model = build(gpt2)
    wrapped = WRAPPERS[name](model)
    wrapped = wrapped.eval() if isinstance(wrapped, nn.Module) else wrapped
    keys: dict[str, Any] = {"width": 3, "max_length": 5}
    if "compiled" in name:  # each shape is compiled separately
        keys = {"width": 1, "max_length": 2}
    decoded = decoding.beam_search(*decoding.huggingface(wrapped, IDS, MASK), **keys)
    right = decoding.beam_search(*decoding.huggingface(model, IDS, MASK), **keys)
    for item in range(2):
        tokens = decoded.hypotheses(item)[0].tokens
        assert tokens == right.hypotheses(item)[0].tokens
        assert decoded.log_prob[item, 0] == pytest.approx(
            log_prob_without_cache(model, IDS[item][MASK[item] == 1], tokens), abs=1e-4
        )
    if "compiled" not in name:
        audit = decoding.audit(*decoding.huggingface(wrapped, IDS, MASK), decoded, max_calls=3)
        assert len(audit.outcome) == 2


class Forgets(nn.Module):
    """A wrapper that drops unknown arguments, such as positions."""

    def __init__(self, model: Any):
        super().__init__()
        self.inner = model

    def forward(
        self, input_ids: Any, attention_mask: Any = None, past_key_values: Any = None, **_: Any
    ) -> Any:
        return self.inner(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=True,
        )


class Strict(Forgets):
    """A wrapper that does not accept positions."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Any,
        attention_mask: Any = None,
        past_key_values: Any = None,
        use_cache: Any = None,
    ) -> Any:
        return super().forward(input_ids, attention_mask, past_key_values)


@pytest.mark.parametrize("wrapper", [Forgets, Strict])
def test_a_wrapper_without_positions_is_refused_for_padded_prompts(wrapper):
    wrapped = wrapper(build(gpt2)).eval()
    with pytest.raises(InputError, match="do not change with padding on the left"):
        decoding.huggingface(wrapped, IDS, MASK)
    assert decoding.greedy(*decoding.huggingface(wrapped, IDS), max_length=2).lengths.all()
    decoder = build(lambda: transformers.BartForCausalLM(bart(is_decoder=True).config))
    with pytest.raises(InputError, match="do not change with padding on the left"):
        decoding.huggingface(decoder, IDS, MASK)


def test_the_start_token_is_the_same_as_in_generate():
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    for first in (2, 4, 7):
        model = build(lambda: bart(decoder_start_token_id=3))
        model.generation_config.decoder_start_token_id = first
        problem = decoding.huggingface(model, ids)
        assert problem.start.tolist() == [first, first]
        decoded = decoding.beam_search(
            *problem, width=3, max_length=6, score=decoding.LengthNormalized(1.0)
        )
        generated = model.generate(
            ids, num_beams=3, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert decoded.tokens[:, 0].tolist() == generated[:, 1:].tolist()
    model.generation_config.decoder_start_token_id = None
    model.generation_config.bos_token_id = 9
    model.config.decoder_start_token_id = None
    assert decoding.huggingface(model, ids).start.tolist() == [9, 9]
    model.generation_config.decoder_start_token_id = [4, 5]
    assert decoding.huggingface(model, ids).start.tolist() == [4, 5]
    model.generation_config.decoder_start_token_id = [4, 5, 6]
    with pytest.raises(InputError, match="3 tokens for 2 prompts"):
        decoding.huggingface(model, ids)


def test_a_forced_first_token_is_followed_as_in_generate_and_has_probability_one():
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    model = build(bart)
    model.generation_config.forced_bos_token_id = 11
    decoded = decoding.beam_search(
        *decoding.huggingface(model, ids),
        width=3,
        max_length=6,
        score=decoding.LengthNormalized(1.0),
    )
    generated = model.generate(
        ids,
        num_beams=3,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert decoded.tokens[:, 0].tolist() == generated.sequences[:, 1:].tolist()
    assert decoded.tokens[:, 0, 0].tolist() == [11, 11]
    assert decoded.token_log_prob[:, 0, 0].tolist() == [0.0, 0.0]
    assert decoded.score[:, 0] == pytest.approx(generated.sequences_scores.numpy(), abs=1e-5)


def test_a_search_without_eos_notes_that_the_end_tokens_are_ignored():
    model = build(gpt2)
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    plain = decoding.huggingface(model, ids)
    assert plain.step.eos == ()  # pyright: ignore[reportFunctionMemberAccess]
    assert decoding.greedy(*plain, max_length=3).notes == ()
    first = int(decoding.greedy(*plain, max_length=3).tokens[0, 0, 1])
    model.generation_config.eos_token_id = [first, 1_000]
    problem = decoding.huggingface(model, ids)
    assert problem.step.eos == (first,)  # pyright: ignore[reportFunctionMemberAccess]
    assert f"end tokens ({first}) are ignored" in str(decoding.greedy(*problem, max_length=3))
    masked = decoding.constrain(*problem, [decoding.forbid([1])])
    assert "are ignored" in decoding.greedy(*masked, max_length=3).notes[0]
    decoded = decoding.greedy(*problem, max_length=4, eos=problem.step.eos)  # pyright: ignore[reportFunctionMemberAccess]
    assert decoded.notes == ()
    generated = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[
        0, 3:
    ].tolist()
    assert decoded.hypotheses(0)[0].tokens == tuple(generated[: generated.index(first) + 1])


def test_ignored_generation_settings_are_named():
    model = build(gpt2)
    model.generation_config.update(
        no_repeat_ngram_size=3, repetition_penalty=1.0, min_length=0, num_beams=4
    )
    model.generation_config.suppress_tokens = [1, 2]
    decoded = decoding.greedy(*decoding.huggingface(model, torch.tensor([[5, 6]])), max_length=2)
    assert decoded.notes == (
        "settings of generation_config are ignored: suppress_tokens = [1, 2], no_repeat_ngram_size "
        "= 3",
    )
    model.generation_config = [1, 2]
    with pytest.raises(InputError, match="generation_config must be a GenerationConfig"):
        decoding.huggingface(model, torch.tensor([[5, 6]]))


def deepseek(kind: str) -> Any:
    config = getattr(transformers, f"{kind}Config")(
        **SIZES,
        intermediate_size=32,
        num_key_value_heads=4,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config)


def minicpm3() -> Any:
    config = transformers.MiniCPM3Config(
        **SIZES,
        intermediate_size=32,
        num_key_value_heads=4,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    )
    return transformers.MiniCPM3ForCausalLM(config)


def gemma4() -> Any:
    config = transformers.Gemma4TextConfig(
        vocab_size=60,
        vocab_size_per_layer_input=60,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        hidden_size_per_layer_input=8,
    )
    return transformers.Gemma4ForCausalLM(config)


def prophetnet() -> Any:
    config = transformers.ProphetNetConfig(
        vocab_size=60,
        hidden_size=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_encoder_attention_heads=2,
        num_decoder_attention_heads=2,
    )
    return transformers.ProphetNetForConditionalGeneration(config)


class KeepsRows(transformers.GPT2LMHeadModel):
    """A model that keeps the mean logits of each row outside the cache."""

    mean: Any

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Any = None, past_key_values: Any = None, **kwargs: Any
    ) -> Any:
        output: Any = super().forward(
            input_ids=input_ids, past_key_values=past_key_values, **kwargs
        )
        now = output.logits.mean(dim=1, keepdim=True)
        is_new = past_key_values is None or past_key_values.get_seq_length() == input_ids.shape[1]
        mean = getattr(self, "mean", now)
        self.mean = now if is_new or len(mean) != len(now) else (now + mean) / 2
        output.logits = output.logits + self.mean
        return output


REFUSED: dict[str, tuple[Any, str]] = {
    "rwkv": (
        lambda: transformers.RwkvForCausalLM(
            transformers.RwkvConfig(
                vocab_size=60, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32
            )
        ),
        "RwkvForCausalLM: an empty cache",
    ),
    "xlnet": (
        lambda: transformers.XLNetLMHeadModel(
            transformers.XLNetConfig(vocab_size=60, d_model=32, n_layer=1, n_head=2, d_inner=32)
        ),
        "XLNetLMHeadModel: an empty cache",
    ),
    "openai-gpt": (
        lambda: transformers.OpenAIGPTLMHeadModel(
            transformers.OpenAIGPTConfig(
                vocab_size=60, n_positions=40, n_embd=32, n_layer=1, n_head=2
            )
        ),
        "OpenAIGPTLMHeadModel: an empty cache",
    ),
    "deepseek v2": (lambda: deepseek("DeepseekV2"), "DeepseekV2ForCausalLM: values of shape"),
    "deepseek v3": (lambda: deepseek("DeepseekV3"), "DeepseekV3ForCausalLM: values of shape"),
    "minicpm3": (minicpm3, "MiniCPM3ForCausalLM: values of shape"),
    "gemma 4": (gemma4, "Gemma4ForCausalLM: keys of shape"),
    "prophetnet": (prophetnet, "ProphetNetForConditionalGeneration: logits that differ"),
    "mamba": (
        lambda: transformers.MambaForCausalLM(
            transformers.MambaConfig(
                vocab_size=60, hidden_size=16, num_hidden_layers=1, state_size=4
            )
        ),
        "a state-space or linear-attention model",
    ),
    "recurrent gemma": (
        lambda: transformers.RecurrentGemmaForCausalLM(
            transformers.RecurrentGemmaConfig(**SIZES, intermediate_size=32, lru_width=32)
        ),
        "a state-space or linear-attention model",
    ),
    "a state in a module": (lambda: KeepsRows(gpt2().config), "of a layer changes with every call"),
    "not causal": (
        lambda: transformers.BertLMHeadModel(
            transformers.BertConfig(**SIZES, intermediate_size=32)
        ),
        "BertLMHeadModel",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_an_unsupported_model_is_refused_by_name_before_any_search(name):
    make, text = REFUSED[name]
    model = build(make)
    with pytest.raises(InputError, match=r"caches keys and values of one shape") as caught:
        decoding.huggingface(model, torch.tensor([[5, 6, 7], [8, 9, 10]]))
    assert text in str(caught.value)
    assert type(base_model(model)).__name__ in str(caught.value)
    assert "state-space" not in str(caught.value) or name in ("mamba", "recurrent gemma")


def test_a_model_of_pictures_is_refused():
    size: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    with torch.random.fork_rng():
        encoder = transformers.ViTModel(transformers.ViTConfig(**size, image_size=16, patch_size=8))
        decoder = gpt2(add_cross_attention=True)
        model = transformers.VisionEncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    pictures: Any = torch.zeros(1, 3, 16, 16)
    with pytest.raises(InputError, match="encoder reads pixel_values") as caught:
        decoding.huggingface(model, pictures)
    assert "tokenizer" not in str(caught.value)


START: dict[str, Any] = {"decoder_start_token_id": 0}

HEALTHY: dict[str, Any] = {
    "nllb-moe": lambda: transformers.NllbMoeForConditionalGeneration(
        transformers.NllbMoeConfig(
            vocab_size=60,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_experts=4,
            encoder_sparse_step=2,
            decoder_sparse_step=2,
            decoder_start_token_id=2,
        )
    ),
    "opt": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(
            **SIZES, ffn_dim=32, max_position_embeddings=40, word_embed_proj_dim=32
        )
    ),
    "bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4)
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=60, d_model=32, d_ff=32, d_kv=8, num_layers=2, num_heads=4, **START
        )
    ),
    "gemma 3": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(
            **SIZES, intermediate_size=32, num_key_value_heads=2, head_dim=8
        )
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_supported_families_score_like_one_pass_without_a_cache(name):
    model = build(HEALTHY[name])
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    problem = decoding.huggingface(model, ids)
    decoded = decoding.beam_search(*problem, width=4, max_length=5)
    for item in range(2):
        tokens = decoded.hypotheses(item)[0].tokens
        if model.config.is_encoder_decoder:
            decoder = torch.tensor([[int(problem.start[item]), *tokens[:-1]]])
            with torch.no_grad():
                logits = model(
                    input_ids=ids[[item]], decoder_input_ids=decoder, use_cache=False
                ).logits[0]
            log_probs = logits.double().log_softmax(-1)
            right = sum(float(log_probs[t, token]) for t, token in enumerate(tokens))
        else:
            right = log_prob_without_cache(model, ids[item], tokens)
        assert decoded.log_prob[item, 0] == pytest.approx(right, abs=1e-4)


def test_objects_of_another_type_are_refused():
    model = build(gpt2)
    ids = torch.tensor([[5, 6, 7]])
    tokens = transformers.BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert decoding.greedy(*decoding.huggingface(model, **tokens), max_length=1).lengths.all()
    more = {**tokens, "token_type_ids": torch.zeros_like(ids)}
    assert decoding.greedy(*decoding.huggingface(model, **more), max_length=1).lengths.all()
    with pytest.raises(InputError, match="token_type_ids must be 0"):
        decoding.huggingface(model, **{**tokens, "token_type_ids": torch.ones_like(ids)})
    with pytest.raises(InputError, match=r"huggingface\(model, \*\*tokens\)"):
        decoding.huggingface(model, tokens)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"model = 'gpt2'(.|\n)*does not load a model by its name"):
        decoding.huggingface("gpt2", ids)
    with pytest.raises(InputError, match="contains no model of transformers"):
        decoding.huggingface(nn.Identity(), ids)
    for mask in (ids[:, :2], torch.ones(1, 1, 3, 3), [[1, 1, 1]], 2 * torch.ones_like(ids)):
        with pytest.raises(InputError, match="attention_mask must have the shape of input_ids"):
            decoding.huggingface(model, ids, mask)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="0 after a token"):
        decoding.huggingface(model, ids, torch.tensor([[1, 0, 1]]))
    with pytest.raises(InputError, match="a list"):
        decoding.huggingface(model, **{"input_ids": [[5, 6]], "attention_mask": [[1, 1]]})  # pyright: ignore
