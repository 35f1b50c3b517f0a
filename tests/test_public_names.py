"""The public names of Leadline are those of a list. A new public name must be added to it."""

import inspect
from importlib import import_module

import pytest

import leadline

PUBLIC_NAMES = {
    "leadline": [
        "InputError",
        "Interval",
        "LeadlineError",
        "Protocol",
        "RepresentationStudy",
        "SaveError",
        "Sounding",
        "Verdict",
        "__version__",
        "autoencoders",
        "data",
        "decoding",
        "explore",
        "figures",
        "gradients",
        "probing",
        "recurrent",
        "report",
        "represent",
        "representation",
        "statistics",
        "worksheet",
    ],
    "leadline.autoencoders": [
        "Autoencoder",
        "AutoencoderTransformer",
        "BlockMask",
        "Corruption",
        "Encoder",
        "Epoch",
        "Examples",
        "GaussianNoise",
        "LinearOptimum",
        "MaskedPatchTransformer",
        "ModuleEncoder",
        "Nothing",
        "PatchMask",
        "PixelMask",
        "Pretrained",
        "TrainingCurves",
        "corrupt_examples",
        "pretrain",
        "pretrain_many",
    ],
    "leadline.data": [
        "Dataset",
        "LabelSubsets",
        "Labels",
        "Roles",
        "Text",
        "digits",
        "glyphs",
        "label_subsets",
        "load",
        "manual_text",
        "photograph_patches",
        "read",
        "split_roles",
    ],
    "leadline.decoding": [
        "Comparison",
        "Complexity",
        "Decoded",
        "GNMT",
        "LengthNormalized",
        "Problem",
        "RecurrentLM",
        "Score",
        "SearchAudit",
        "SearchErrors",
        "Shared",
        "SumLogProb",
        "Table",
        "WordReward",
        "allow",
        "audit",
        "beam_search",
        "compare",
        "constrain",
        "exact_search",
        "exhaustive_search",
        "forbid",
        "force_prefix",
        "greedy",
        "huggingface",
        "measure_complexity",
        "measure_search_errors",
        "min_length",
        "no_repeat_ngram",
        "sample",
    ],
    "leadline.explore": [
        "gradients",
        "representation",
        "search",
    ],
    "leadline.figures": ["Drawing", "export", "interactive", "still"],
    "leadline.gradients": [
        "CureComparison",
        "GradientFlow",
        "GradientMonitor",
        "Influence",
        "LayerFlow",
        "LayerInfluence",
        "LayerStability",
        "LayerTerms",
        "Stability",
        "Tape",
        "WeightTerms",
        "compare_cures",
        "measure_stability",
        "read_metrics",
        "record",
        "trace",
    ],
    "leadline.probing": [
        "FineTuned",
        "KNNProbe",
        "LabelEfficiency",
        "LinearProbe",
        "RankAgreement",
        "RidgeProbe",
        "Scaling",
        "TransferMatrix",
        "fine_tune",
        "knn_probe",
        "label_efficiency",
        "linear_probe",
        "rank_agreement",
        "rank_me",
        "ridge_probe",
        "transfer_matrix",
    ],
    "leadline.recurrent": [
        "GRU",
        "LSTM",
        "RNN",
        "Regression",
        "Training",
        "mse",
        "running_average",
        "train",
    ],
    "leadline.report": [
        "write",
    ],
    "leadline.representation": [
        "RepresentationStudy",
        "represent",
    ],
    "leadline.statistics": [
        "Effect",
        "effect",
        "paired_interval",
        "smallest_detectable_effect",
        "zero_crossing",
    ],
    "leadline.worksheet": [
        "Answer",
        "Result",
        "STATEMENTS",
        "Setting",
        "Statement",
        "measure",
        "run",
        "select",
    ],
}


def names_of(door: str) -> list[str]:
    return list(getattr(import_module(door), "__all__", ()))


DOORS = [
    "leadline",
    *(f"leadline.{name}" for name in leadline.__all__ if inspect.ismodule(getattr(leadline, name))),
]


def test_the_public_names_equal_the_list():
    assert {door: sorted(names_of(door)) for door in DOORS} == PUBLIC_NAMES


def test_packages_for_internal_use_have_no_public_names():
    for door in ("leadline.checks", "leadline.storage", "leadline.gradients.cures"):
        assert names_of(door) == []


@pytest.mark.parametrize("door", DOORS)
def test_every_public_function_and_class_has_a_docstring(door):
    for name in names_of(door):
        value = getattr(import_module(door), name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), f"{door}.{name} has no docstring"
