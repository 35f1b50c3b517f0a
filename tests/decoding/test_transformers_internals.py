"""Tests of the undocumented parts of transformers that the cache of a search relies on."""

import inspect
from pathlib import Path

import pytest
import torch
import transformers
from transformers import cache_utils

from leadline.decoding.models import _transformers_internals as internals

PARTS = {
    "Cache": ("layer_class_to_replicate", "layers", "update", "get_seq_length"),
    "DynamicLayer": ("update", "get_seq_length", "get_mask_sizes"),
    "EncoderDecoderCache": ("self_attention_cache", "cross_attention_cache", "is_updated"),
}
"""Classes of ``transformers.cache_utils``, and the attributes and arguments that Leadline uses."""


@pytest.mark.parametrize("name", PARTS)
def test_transformers_has_each_part(name):
    version = f"transformers {transformers.__version__}"
    kind = getattr(cache_utils, name, None)
    assert kind is not None, f"{version} has no cache_utils.{name}, which huggingface() uses"
    source = inspect.getsource(kind)
    for part in PARTS[name]:
        assert hasattr(kind, part) or part in source, (
            f"{version}: cache_utils.{name} has no {part}, which huggingface() uses"
        )


def test_no_other_file_imports_the_cache_of_transformers():
    file = Path(internals.__file__)
    for path in file.parents[2].rglob("*.py"):
        if path != file:
            assert "cache_utils" not in path.read_text(encoding="utf-8"), path


def test_a_cache_creates_layers_of_the_given_class_and_returns_all_positions():
    (cache,) = internals.parts_of(internals.new_cache(has_encoder=False))
    keys, values = torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 4)
    for index in range(2):
        updated = cache.update(keys, values, index)
        assert torch.equal(updated[0], keys)
        assert torch.equal(updated[1], values)
    assert [type(layer) for layer in cache.layers] == [internals.Layer] * 2
    assert cache.get_seq_length() == 3
    assert cache.is_linear == cache.is_dummy == [False, False]


def test_a_filled_cache_of_an_encoder_decoder_model_knows_that_the_encoder_has_run():
    def layer():
        filled = internals.Layer()
        filled.update(torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 4))
        return filled

    cache = internals.filled_cache([[layer()], [layer()]])
    assert isinstance(cache, cache_utils.EncoderDecoderCache)
    assert cache.is_updated[0]
    assert [len(part.layers) for part in internals.parts_of(cache)] == [1, 1]
    empty = internals.new_cache(has_encoder=True)
    assert isinstance(empty, cache_utils.EncoderDecoderCache)
    assert not empty.is_updated.get(0, False)
