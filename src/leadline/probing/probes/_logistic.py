"""Multinomial logistic regression, many problems at once.

Every problem of a study (label subset, fold, seed, strength of regularisation) is one row of a batch, and all take the
steps of L-BFGS together, along the principal axes of their rows. The objective is convex, a problem is left alone once
its gradient is small, and nothing is drawn at random: a solution depends on its own problem only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from leadline import checks
from leadline.checks import ShortRepr
from leadline.errors import InputError

MEMORY = 7
"""Pairs of steps and gradient changes that L-BFGS remembers."""

MEASURED_AFTER = (0, 10, 40, 160)
"""Steps after which the curvature is measured where the fits then are: what it was at the start is far too much for
rows that are already told apart."""

MAX_STEPS = 1000
"""Steps after which a problem is given up; its gradient tells."""

WIDE = 1024
"""Features from which on convergence is judged by a bound, if there are also :data:`WIDE_SHARE` times fewer axes."""

WIDE_SHARE = 4


@dataclass(frozen=True, eq=False)
class LogisticFits(ShortRepr):
    """Solutions of a batch of problems."""

    coefficients: Float[Tensor, "batch fits classes features"]
    intercepts: Float[Tensor, "batch fits classes"]
    gradient: Float[Tensor, "batch fits"]
    """Largest entry of the gradient at the solution: convergence, measured."""

    def logits(
        self, Z: Float[Tensor, "batch rows features"]
    ) -> Float[Tensor, "batch fits rows classes"]:
        """Scores of rows, of which the softmax is the predicted distribution."""
        batch, fits, classes, features = self.coefficients.shape
        Z = _numbers(Z, "Z", ("batch", "rows", "features"), {"batch": batch, "features": features})
        Z = Z.to(self.coefficients)
        scores = torch.matmul(Z, self.coefficients.reshape(batch, fits * classes, features).mT)
        return scores.unflatten(-1, (fits, classes)).transpose(1, 2) + self.intercepts.unsqueeze(2)


def fit_logistic(
    Z: Float[Tensor, "batch rows features"],
    y: Int[Tensor, "batch rows"],
    strengths: Float[Tensor, "batch fits"],
    *,
    classes: int,
    weights: Float[Tensor, "batch fits rows"] | None = None,
    start: LogisticFits | None = None,
    tol: float = 1e-4,
) -> LogisticFits:
    """Solve a batch of multinomial logistic regressions with L2 regularisation.

    Formula: each fit minimises ``1/n sum_i w_i (logsumexp_c(s_ic) - s_iy) + ‖W‖² / (2 C n)`` with scores
    ``s_i = W z_i + b`` and ``n = sum_i w_i``; the intercepts b are not regularised. With three or more classes this is
    the objective of scikit-learn's ``LogisticRegression(C=C)``. A fit whose rows are of two classes takes ``C / 2``:
    its two weight vectors are then plus and minus half of scikit-learn's single one, and the predicted distribution is
    that of scikit-learn's binary fit at C.

    Args:
        Z: features of each problem's rows, best centred and of unit scale.
        y: class of each row, in [0, classes).
        strengths: C of each fit, > 0: small means strongly regularised.
        classes: number of classes. A class without a row counts for nothing, and is never predicted.
        weights: which rows a fit uses (1 or 0); all by default.
        start: solutions to start from, such as those for a smaller C.
        tol: largest entry of the gradient at which a fit is solved.

    Returns:
        The solutions, with the gradients that they ended with.

    Raises:
        InputError: features that are not finite, shapes that do not fit, classes out of range, or a setting that is not
            positive.

    Reference: Liu & Nocedal, *On the limited memory BFGS method for large scale optimization*, 1989; the bound of the
    curvature is that of Böhning, *Multinomial logistic regression algorithm*, 1992; that the solution lies in the span
    of the rows is the theorem of Kimeldorf & Wahba, *Some results on Tchebycheffian spline functions*, 1971.
    """
    Z = _numbers(Z, "Z", ("batch", "rows", "features"), {})
    sizes = {"batch": Z.shape[0], "rows": Z.shape[1], "features": Z.shape[2]}
    strengths = _numbers(strengths, "strengths", ("batch", "fits"), sizes).to(Z)
    classes = checks.whole_number(classes, "classes", least=2, most=MOST_CLASSES)
    sizes |= {"fits": strengths.shape[1], "classes": classes}
    tol = checks.number(tol, "tol", above=0)
    _refuse(strengths <= 0, "strengths", "positive: small means strongly regularised")
    places = _numbers(y, "y", ("batch", "rows"), sizes)
    _refuse(
        (places < 0) | (places >= classes) | (places != places.floor()),
        "y",
        "whole numbers below classes",
    )
    if weights is not None:
        weights = _numbers(weights, "weights", ("batch", "fits", "rows"), sizes).to(Z)
        _refuse((weights != 0) & (weights != 1), "weights", "0 or 1")
        _refuse(weights.sum(2) == 0, "weights", "1 for some row of each fit")
    if start is not None:
        start = checks.instance(start, "start", LogisticFits, wanted="the result of fit_logistic()")
        coefficients = _numbers(
            start.coefficients,
            "start.coefficients",
            ("batch", "fits", "classes", "features"),
            sizes,
        )
        intercepts = _numbers(
            start.intercepts, "start.intercepts", ("batch", "fits", "classes"), sizes
        )
        start = LogisticFits(coefficients.to(Z), intercepts.to(Z), start.gradient)
    return solve_logistic(
        Z, places.long(), strengths, classes=classes, weights=weights, start=start, tol=tol
    )


MOST_CLASSES = 10**6
"""More classes than this are a mistake: names or quantities in place of classes."""


def _numbers(value: Any, name: str, axes: tuple[str, ...], sizes: Mapping[str, int]) -> Tensor:
    """A tensor of finite numbers with these axes, or a refusal."""
    numbers = value if _is_plain(value) else _converted(value, name)
    wanted = tuple(sizes.get(axis, size) for axis, size in zip(axes, numbers.shape, strict=False))
    if numbers.dim() != len(axes) or tuple(numbers.shape) != wanted or 0 in numbers.shape:
        known = ", ".join(f"{axis} = {sizes[axis]}" for axis in axes if axis in sizes)
        raise InputError(
            f"{name} must have the shape ({', '.join(axes)})" + (f" with {known}" if known else ""),
            got=f"{name} = {checks.shown(value)}",
        )
    numbers = numbers if numbers.is_floating_point() else numbers.double()
    _refuse(~numbers.isfinite(), name, "finite")
    return numbers


def _converted(value: Any, name: str) -> Tensor:
    """A tensor of what is none, or does not compute as it is."""
    array = checks.array(value, name, wanted="a tensor of numbers")
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must be a tensor of numbers", got=f"{name} of dtype {array.dtype}"
        )
    return torch.tensor(array)


def _is_plain(value: Any) -> bool:
    """True for tensors that compute as they are: dense, float32 or float64, on a device with numbers."""
    is_dense = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    return is_dense and value.dtype in (torch.float32, torch.float64) and not value.requires_grad


def _refuse(is_wrong: Tensor, name: str, rule: str) -> None:
    if is_wrong.any():
        place = ", ".join(map(str, is_wrong.nonzero()[0].tolist()))
        raise InputError(
            f"{name} must be {rule}", got=f"{name}[{place}]; {int(is_wrong.sum())} such"
        )


def solve_logistic(
    Z: Tensor,
    y: Tensor,
    strengths: Tensor,
    *,
    classes: int,
    weights: Tensor | None = None,
    start: LogisticFits | None = None,
    axes: "PrincipalAxes | None" = None,
    tol: float = 1e-4,
) -> LogisticFits:
    """:func:`fit_logistic` without its checks; ``axes`` are those of Z, where they are known already."""
    weights = Z.new_ones(*strengths.shape, Z.shape[1]) if weights is None else weights
    axes = PrincipalAxes.of(Z) if axes is None else axes
    before = None if start is None else axes.enter(start)
    W, gradient = _lbfgs(_Problem.of(axes, y, strengths, classes, weights), before, tol)
    return axes.leave(W, gradient)


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The rows of each problem along their own principal axes, where a fit's curvature is nearly diagonal.

    Of n rows with d features ``min(n, d)`` axes matter; along all others the solution is zero, and is not computed.
    A rotation changes no penalty, and a shift is taken up by the intercept, which has none: the problem stays the same.
    """

    rows: Float[Tensor, "batch rows axes"]
    """Centred rows, told by their places along the axes."""
    directions: Float[Tensor, "batch axes features"]
    """The axes: orthonormal, and zero where the rows span fewer."""
    mean: Float[Tensor, "batch 1 features"]

    @classmethod
    def of(cls, Z: Float[Tensor, "batch rows features"]) -> "PrincipalAxes":
        """The axes of each problem's rows, computed in float64."""
        wide = Z.double()
        mean = wide.mean(1, keepdim=True)
        centred = wide - mean
        if Z.shape[1] > Z.shape[2]:
            directions = torch.linalg.eigh(centred.mT @ centred).eigenvectors.mT
            rows = centred @ directions.mT
        else:  # by the eigenvectors of the rows' inner products, of which there are fewer
            squares, left = torch.linalg.eigh(centred @ centred.mT)
            spanned = squares > 1e-12 * squares.amax(1, keepdim=True)
            lengths = squares.clamp(min=0).sqrt()
            rows = left * (lengths * spanned).unsqueeze(1)
            directions = (left * torch.where(spanned, 1 / lengths, 0).unsqueeze(1)).mT @ centred
        return cls(rows.to(Z.dtype), directions.to(Z.dtype), mean.to(Z.dtype))

    def __getitem__(self, index: Tensor) -> "PrincipalAxes":
        return PrincipalAxes(self.rows[index], self.directions[index], self.mean[index])

    def enter(self, fits: LogisticFits) -> Float[Tensor, "batch fits classes columns"]:
        """Solutions in these coordinates, the intercept last."""
        shift = torch.linalg.vecdot(fits.coefficients, self.mean.unsqueeze(1))
        along = fits.coefficients @ self.directions.mT.unsqueeze(1)
        return torch.cat([along, (fits.intercepts + shift).unsqueeze(3)], 3)

    def leave(
        self, W: Float[Tensor, "batch fits classes columns"], gradient: Float[Tensor, "batch fits"]
    ) -> LogisticFits:
        """Solutions in the coordinates of the features."""
        coefficients = W[..., :-1] @ self.directions.unsqueeze(1)
        shift = torch.linalg.vecdot(coefficients, self.mean.unsqueeze(1))
        return LogisticFits(coefficients, W[..., -1] - shift, gradient)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Objective and gradient of a batch, in principal axes; the intercept is the weight of a last, constant one.

    Arrays are ordered so that the sum over classes runs over an outer axis, with rows side by side in memory.
    """

    Z: Tensor
    """(batch, rows, axes + 1)"""
    squares: Tensor
    """Z squared, which the curvature is measured with."""
    weights: Tensor
    """(batch, fits, rows), adding to 1 in each fit."""
    moments: Tensor
    """(batch, fits, classes, axes + 1): weighted sums of the rows of each class, on which the fit term depends."""
    penalty: Tensor
    """(batch, fits, 1, axes + 1): 1 / (C n), and 0 for the intercept."""
    features: Tensor
    """(batch, axes + 1, features + 1): what turns a gradient into that with respect to the features' weights."""
    reach: Tensor
    """(batch,): length of the longest column of ``features``, which bounds the entries of a turned gradient."""

    @classmethod
    def of(
        cls, axes: PrincipalAxes, y: Tensor, strengths: Tensor, classes: int, weights: Tensor
    ) -> "_Problem":
        Z = pad(axes.rows, (0, 1), value=1.0)
        sizes = weights.sum(2, keepdim=True)
        weights = weights / sizes
        member = (y.unsqueeze(1) == torch.arange(classes, device=y.device).unsqueeze(1)).to(Z.dtype)
        target = weights.unsqueeze(2) * member.unsqueeze(1)
        moments = torch.bmm(target.flatten(1, 2), Z).unflatten(1, target.shape[1:3])
        is_present = target.sum(3) > 0
        is_binary = is_present.sum(2) == 2
        strengths = torch.where(is_binary, strengths / 2, strengths)
        penalty = (1 / (strengths * sizes.squeeze(2)))[..., None, None].repeat(1, 1, 1, Z.shape[2])
        penalty[..., -1] = 0
        shifted = torch.cat([pad(axes.directions, (0, 1)), pad(axes.mean, (0, 1), value=1.0)], 1)
        return cls(Z, Z.square(), weights, moments, penalty, shifted, shifted.norm(dim=1).amax(1))

    def __getitem__(self, index: Tensor) -> "_Problem":
        return _Problem(*(getattr(self, field.name)[index] for field in fields(self)))

    def zeros(self) -> Tensor:
        """The weights of no knowledge, (batch, fits, classes, axes + 1)."""
        return torch.zeros_like(self.moments)

    def curvature(self, W: Tensor) -> Tensor:
        """The Hessian's diagonal at weights W, kept away from zero: (batch, fits, classes * (axes + 1))."""
        chance = self._scores(W).softmax(2)
        spread = (chance * (1 - chance)).mul_(self.weights.unsqueeze(2))
        squares = torch.bmm(spread.flatten(1, 2), self.squares).view(self.moments.shape)
        bound = (torch.bmm(self.weights, self.squares) / 2).unsqueeze(2) + self.penalty
        return torch.maximum(squares + self.penalty, 1e-6 * bound).flatten(2)

    def at_most(self, gradient: Tensor) -> Tensor:
        """A bound of :meth:`largest`, which costs nothing where features are many more than rows: (batch, fits)."""
        batch, _, _, axes = self.moments.shape
        features = self.features.shape[2]
        if features <= WIDE or features <= WIDE_SHARE * axes:
            return self.largest(gradient)
        lengths = gradient.view(self.moments.shape).norm(dim=3).amax(2)
        return lengths * self.reach.view(batch, 1)

    def largest(self, gradient: Tensor) -> Tensor:
        """Largest entry of each gradient with respect to the features' weights: (batch, fits)."""
        batch, fits, classes, axes = self.moments.shape
        of_features = torch.bmm(gradient.view(batch, fits * classes, axes), self.features)
        return of_features.abs_().view(batch, fits, -1).amax(2)

    def __call__(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Objective (batch, fits) and gradient at weights W: (batch, fits, classes * (axes + 1))."""
        scores = self._scores(W)
        peak = scores.amax(2, keepdim=True)
        mass = scores.sub_(peak).exp_()
        total = mass.sum(2)
        normaliser = ((total.log() + peak.squeeze(2)) * self.weights).sum(2)
        expected = mass.mul_((self.weights / total).unsqueeze(2))
        moments = self.moments.flatten(2)
        rest = (W.view(self.moments.shape) * self.penalty).flatten(2).sub_(moments)
        gradient = torch.bmm(expected.flatten(1, 2), self.Z).view(W.shape).add_(rest)
        return normaliser + (_dot(rest, W) - _dot(moments, W)) / 2, gradient

    def _scores(self, W: Tensor) -> Tensor:
        """(batch, fits, classes, rows)"""
        batch, fits, classes, features = self.moments.shape
        return torch.bmm(W.view(batch, fits * classes, features), self.Z.mT).view(
            batch, fits, classes, -1
        )


def _lbfgs(problem: _Problem, start: Tensor | None, tol: float) -> tuple[Tensor, Tensor]:
    """Minimise all problems of a batch; returns weights and the largest entry of each gradient.

    One evaluation per step: a problem whose trial point is good moves there and takes a new direction, any other tries
    again nearer. On a convex objective a point is good if the slope along the step is still downhill there, or if the
    objective has fallen. Rows of the batch whose fits are all solved leave it.
    """
    shape = problem.moments.shape
    W = (problem.zeros() if start is None else start).flatten(2)
    solution, residual = W.clone(), W.new_zeros(shape[:2])
    alive = torch.arange(len(W), device=W.device)
    slack = 8 * torch.finfo(W.dtype).eps
    value, gradient = problem(W)
    scale = direction = gradient  # until the curvature is measured, before the first step
    slope, length, stretch = value, value, value
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for taken in range(MAX_STEPS):
        largest = problem.at_most(gradient)
        is_open = largest > tol
        rows = is_open.any(1)
        count = int(rows.sum())
        if count <= 0.75 * len(W):
            solution[alive] = W
            residual[alive] = problem.largest(gradient)
            if count == 0:
                break
            problem, alive = problem[rows], alive[rows]
            W, gradient, direction, scale = W[rows], gradient[rows], direction[rows], scale[rows]
            value, slope, length, stretch = value[rows], slope[rows], length[rows], stretch[rows]
            pairs = [(s[rows], y[rows], r[rows]) for s, y, r in pairs]
            is_open = is_open[rows]
        if taken in MEASURED_AFTER:
            scale, pairs = 1 / problem.curvature(W), []
            direction = -scale * gradient
            slope, length, stretch = (
                _dot(gradient, direction),
                torch.ones_like(length),
                torch.ones_like(stretch),
            )
        length = length * is_open
        step = direction * length.unsqueeze(2)
        trial = W + step
        new_value, new_gradient = problem(trial)
        new_slope = _dot(new_gradient, direction)
        good = (new_slope <= 0) | (new_value <= value + 1e-4 * length * slope + slack * value.abs())
        change = new_gradient - gradient
        curvature = length * (new_slope - slope)
        useful = good & (curvature > 0)
        pairs = [*pairs[1 - MEMORY :], (step, change, torch.where(useful, 1 / curvature, 0.0))]
        stretch = torch.where(useful, curvature / _dot(change, scale * change), stretch)
        value = torch.where(good, new_value, value)
        if good.all():
            W, gradient = trial, new_gradient
            direction = _towards(gradient, pairs, scale, stretch)
            slope, length = _dot(gradient, direction), torch.ones_like(length)
        else:
            wide = good.unsqueeze(2)
            W, gradient = torch.where(wide, trial, W), torch.where(wide, new_gradient, gradient)
            direction = torch.where(wide, _towards(gradient, pairs, scale, stretch), direction)
            nearer = length * (slope / (slope - new_slope)).clamp(0.1, 0.5)
            slope, length = _dot(gradient, direction), torch.where(good, 1.0, nearer)
    else:
        solution[alive], residual[alive] = W, problem.largest(gradient)
    return solution.view(shape), residual


def _towards(
    gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], scale: Tensor, stretch: Tensor
) -> Tensor:
    """The quasi-Newton direction, by the two-loop recursion; a pair of inverse curvature 0 changes nothing."""
    q, shares = -gradient, []
    for step, change, inverse in reversed(pairs):
        shares.append(_dot(step, q).mul_(inverse))
        q.addcmul_(change, shares[-1].unsqueeze(2), value=-1)
    q.mul_(scale).mul_(stretch.unsqueeze(2))
    for (step, change, inverse), share in zip(pairs, reversed(shares), strict=True):
        q.addcmul_(step, (share - _dot(change, q) * inverse).unsqueeze(2))
    return q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)
