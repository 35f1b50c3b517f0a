"""The best next tokens of every hypothesis: the one place that reads all ``(N, M)`` scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import InputError


def best_tokens(
    scores: Float[Tensor, "N M"], count: int, are_logits: bool
) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]]:
    """The ``count`` most likely tokens of each row (all, if M is smaller), in the order of their numbers.

    Ties go to the lower token, except for the last place, which any of its equals may have: it is there to bound what
    is left out. Ranking happens on the raw scores; log-probabilities are formed for the
    chosen alone, in float64.

    Args:
        scores: logits or log-probabilities; ``-inf`` masks a token. A row with NaN has NaN among its results.
        count: C, at least 1.
        are_logits: subtract each row's ``logsumexp``.

    Returns:
        Log-probabilities (float64) and tokens, sorted by token within each row.

    >>> best_tokens(torch.tensor([[0.0, 2.0, 1.0, 1.0, 1.0]]), 3, are_logits=False)[1].tolist()
    [[1, 2, 3]]
    """
    M = scores.shape[1]
    top, tokens = scores.topk(min(count, M), dim=1)
    if count < M:
        _settle_ties(scores, top, tokens)
    log_prob = top.double()
    if are_logits:
        log_prob = _normalised(scores, log_prob, tokens)
    tokens, order = tokens.sort(dim=1)
    return log_prob.gather(1, order), tokens


def all_tokens(scores: Float[Tensor, "N M"], are_logits: bool) -> Float[Tensor, "N M"]:
    """Log-probabilities (float64) of every token: the same numbers that :func:`best_tokens` gives for the best.

    >>> all_tokens(torch.zeros(1, 4), are_logits=True).exp().sum().round(decimals=6).item()
    1.0
    """
    log_prob = scores.double()
    return _normalised(scores, log_prob, scores.argmax(dim=1, keepdim=True)) if are_logits else log_prob


def _normalised(scores: Tensor, chosen: Tensor, best: Tensor) -> Tensor:
    """Raw scores to log-probabilities; ``best`` (N, 1 or more) has the token of the highest score first."""
    # log_softmax is torch's fastest way to a logsumexp on a CPU (four times faster than logsumexp itself).
    highest = torch.log_softmax(scores, dim=1).gather(1, best[:, :1]).double()
    logsumexp = scores.gather(1, best[:, :1]).double() - highest
    log_prob = (chosen - logsumexp).clamp_(max=0)
    return torch.where(chosen == -torch.inf, chosen, log_prob)


def _settle_ties(scores: Tensor, top: Tensor, tokens: Tensor) -> None:
    edge = top[:, -1]
    tied = ((edge == top[:, -2:-1].squeeze(1)) if top.shape[1] > 1 else torch.ones_like(edge, dtype=torch.bool)) & (
        edge > -torch.inf
    )
    if tied.any():
        rows = tied.nonzero().squeeze(1)
        values, order = scores[rows].sort(dim=1, descending=True, stable=True)
        top[rows], tokens[rows] = values[:, : top.shape[1]], order[:, : top.shape[1]]


def refuse_nan(*, step: int, item: int, hypothesis: int) -> None:
    """Raise the error for a score that is NaN (or ``+inf``, which is as bad).

    Raises:
        InputError: always.
    """
    raise InputError(
        "scores are numbers or -inf",
        got=f"NaN or +inf at step {step}, item {item}, hypothesis {hypothesis}",
        cause="a division by zero or an overflow (float16?) inside the step function",
        cure="run the model in float32 and look at its scores for this prefix",
    )
