"""Perplexities on held-out text: of a language model, and of the counting models it must beat."""

from dataclasses import dataclass

import numpy as np

from leadline.checks import ShortRepr


@dataclass(frozen=True)
class Perplexities(ShortRepr):
    """Perplexities of the model and of two counting models on the held-out paragraphs.

    A perplexity is ``exp`` of the mean negative log-probability per token.
    """

    model: float
    bigram: float
    """Perplexity of counts of pairs, by absolute discounting; it backs off to the unigram model."""
    unigram: float
    """Perplexity of counts of single tokens, plus one."""
    tokens: int
    """Number of held-out tokens."""


def measure_counting_models(
    train: np.ndarray, test: np.ndarray, M: int, discount: float = 0.75
) -> tuple[float, float]:
    """Return the perplexities of a bigram model and of a unigram model.

    The bigram model uses absolute discounting; the unigram model adds 1 to each count.

    Args:
        train: the tokens of the training text.
        test: the tokens of the held-out text.
        M: size of the vocabulary.
        discount: the number that absolute discounting subtracts from each count of a pair.

    Reference: Ney, Essen and Kneser, *On structuring probabilistic dependences in stochastic
    language modelling*, 1994.
    """
    unigram = (np.bincount(train, minlength=M) + 1) / (len(train) + M)
    pairs, counts = np.unique(train[:-1] * M + train[1:], return_counts=True)
    num_followers = np.bincount(pairs // M, weights=counts, minlength=M)
    num_kinds = np.bincount(pairs // M, minlength=M)
    previous = np.concatenate([[0], test[:-1]])
    test_pairs = previous * M + test
    index = np.minimum(np.searchsorted(pairs, test_pairs), len(pairs) - 1)
    count = np.where(pairs[index] == test_pairs, counts[index], 0)
    total = np.maximum(num_followers[previous], 1)
    backoff_weight = np.where(
        num_followers[previous] > 0, discount * num_kinds[previous] / total, 1.0
    )
    bigram = np.maximum(count - discount, 0) / total + backoff_weight * unigram[test]
    return _perplexity(bigram), _perplexity(unigram[test])


def _perplexity(p: np.ndarray) -> float:
    return float(np.exp(-np.log(p).mean()))
