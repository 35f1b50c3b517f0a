"""Multinomial logistic regression that solves many problems at once.

Each problem of a study (label subset, fold, seed, strength of regularisation) is one row of a
batch. All problems take the steps of L-BFGS together, along the principal axes of their rows. The
objective is convex, a solved problem leaves the batch, and nothing is drawn at random. A solution
therefore depends on its own problem only.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from leadline.checks import ShortRepr

MEMORY = 7
"""Number of pairs of steps and gradient changes that L-BFGS keeps."""

CURVATURE_STEPS = (0, 10, 40, 160)
"""Steps at which the curvature is measured again at the current weights.

The curvature at the start is far too large for rows that are already separated.
"""

MAX_STEPS = 1000
"""Number of steps after which a fit is given up.

Its reported gradient then exceeds the tolerance.
"""

WIDE = 1024
"""Number of features above which a bound may decide convergence; see :data:`WIDE_SHARE`."""

WIDE_SHARE = 4
"""The bound is used only if there are more than this many features for each axis."""


@dataclass(frozen=True, eq=False)
class LogisticFits(ShortRepr):
    """Solutions of a batch of problems."""

    coefficients: Float[Tensor, "batch fits classes features"]
    intercepts: Float[Tensor, "batch fits classes"]
    gradient: Float[Tensor, "batch fits"]
    """Largest entry of the gradient at the solution, which measures convergence."""

    def logits(
        self, Z: Float[Tensor, "batch rows features"]
    ) -> Float[Tensor, "batch fits rows classes"]:
        """Return the scores of rows; their softmax is the predicted distribution."""
        batch, fits, classes, features = self.coefficients.shape
        weights = self.coefficients.reshape(batch, fits * classes, features)
        scores = torch.matmul(Z.to(self.coefficients), weights.mT)
        return scores.unflatten(-1, (fits, classes)).transpose(1, 2) + self.intercepts.unsqueeze(2)


def fit_logistic(
    Z: Float[Tensor, "batch rows features"],
    y: Int[Tensor, "batch rows"],
    strengths: Float[Tensor, "batch fits"],
    *,
    num_classes: int,
    weights: Float[Tensor, "batch fits rows"] | None = None,
    start: LogisticFits | None = None,
    axes: "PrincipalAxes | None" = None,
    tolerance: float = 1e-4,
) -> LogisticFits:
    """Solve a batch of multinomial logistic regressions with L2 regularisation.

    Formula: each fit minimises
    ``1/n sum_i w_i (logsumexp_c(s_ic) - s_iy) + ‖W‖² / (2 C n)`` with scores ``s_i = W z_i + b``
    and ``n = sum_i w_i``; the intercepts b are not regularised. With three or more classes this is
    the objective of scikit-learn's ``LogisticRegression(C=C)``. A fit with rows of two classes uses
    ``C / 2``: its two weight vectors are then plus and minus half of scikit-learn's single vector,
    and the predicted distribution equals scikit-learn's binary fit at C.

    Args:
        Z: features of each problem's rows, preferably centred and of unit scale.
        y: class of each row, in [0, num_classes).
        strengths: C of each fit, > 0; small means strongly regularised.
        num_classes: number of classes. A class without a row is never predicted.
        weights: 1 for rows that a fit uses, 0 for others; by default all rows are used.
        start: solutions to start from, such as those for a smaller C.
        axes: principal axes of Z, if they are known already.
        tolerance: largest entry of the gradient at which a fit is solved.

    Returns:
        The solutions with the largest entry of each final gradient.

    >>> Z = torch.tensor([[[-1.0], [1.0]]])
    >>> fits = fit_logistic(Z, torch.tensor([[0, 1]]), torch.ones(1, 1), num_classes=2)
    >>> fits.logits(Z).argmax(3).tolist()
    [[[0, 1]]]

    Reference: Liu & Nocedal, *On the limited memory BFGS method for large scale optimization*,
    1989; Böhning, *Multinomial logistic regression algorithm*, 1992 (the bound of the curvature);
    Kimeldorf & Wahba, *Some results on Tchebycheffian spline functions*, 1971 (the solution lies in
    the span of the rows).
    """
    if weights is None:
        weights = Z.new_ones(*strengths.shape, Z.shape[1])
    if axes is None:
        axes = PrincipalAxes.of(Z)
    first = None if start is None else axes.enter(start)
    problem = _Problem.of(axes, y, strengths, num_classes, weights)
    W, gradient = _lbfgs(problem, first, tolerance)
    return axes.leave(W, gradient)


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The rows of each problem along their own principal axes.

    Along these axes the curvature of a fit is nearly diagonal. Only ``min(n, d)`` axes of n rows
    with d features matter; along all others the solution is zero and is not computed. The problem
    stays the same: a rotation does not change the penalty, and the intercept, which has no penalty,
    absorbs the shift.
    """

    rows: Float[Tensor, "batch rows axes"]
    """Coordinates of the centred rows along the axes."""
    directions: Float[Tensor, "batch axes features"]
    """The axes: orthonormal, and zero beyond the rank of the rows."""
    mean: Float[Tensor, "batch 1 features"]

    @classmethod
    def of(cls, Z: Float[Tensor, "batch rows features"]) -> "PrincipalAxes":
        """Return the axes of each problem's rows, computed in float64."""
        wide = Z.double()
        mean = wide.mean(1, keepdim=True)
        centred = wide - mean
        if Z.shape[1] > Z.shape[2]:
            directions = torch.linalg.eigh(centred.mT @ centred).eigenvectors.mT
            rows = centred @ directions.mT
        else:
            # There are fewer rows than features, so the matrix of the rows' inner products is the
            # smaller one.
            squares, left = torch.linalg.eigh(centred @ centred.mT)
            spanned = squares > 1e-12 * squares.amax(1, keepdim=True)
            lengths = squares.clamp(min=0).sqrt()
            rows = left * (lengths * spanned).unsqueeze(1)
            directions = (left * torch.where(spanned, 1 / lengths, 0).unsqueeze(1)).mT @ centred
        return cls(rows.to(Z.dtype), directions.to(Z.dtype), mean.to(Z.dtype))

    def __getitem__(self, index: Tensor) -> "PrincipalAxes":
        return PrincipalAxes(self.rows[index], self.directions[index], self.mean[index])

    def enter(self, fits: LogisticFits) -> Float[Tensor, "batch fits classes columns"]:
        """Return solutions in these coordinates, with the intercept as the last column."""
        shift = torch.linalg.vecdot(fits.coefficients, self.mean.unsqueeze(1))
        along = fits.coefficients @ self.directions.mT.unsqueeze(1)
        return torch.cat([along, (fits.intercepts + shift).unsqueeze(3)], 3)

    def leave(
        self, W: Float[Tensor, "batch fits classes columns"], gradient: Float[Tensor, "batch fits"]
    ) -> LogisticFits:
        """Return solutions in the coordinates of the features."""
        coefficients = W[..., :-1] @ self.directions.unsqueeze(1)
        shift = torch.linalg.vecdot(coefficients, self.mean.unsqueeze(1))
        return LogisticFits(coefficients, W[..., -1] - shift, gradient)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Objective and gradient of a batch in principal axes.

    The intercept is the weight of a last, constant axis. Arrays are laid out so that sums over
    classes run over an outer axis and the rows are contiguous in memory.
    """

    Z: Tensor
    """(batch, rows, axes + 1)"""
    squares: Tensor
    """The squares of Z, from which the curvature is computed."""
    weights: Tensor
    """(batch, fits, rows); the weights of each fit sum to 1."""
    moments: Tensor
    """(batch, fits, classes, axes + 1): the weighted sum of the rows of each class."""
    penalty: Tensor
    """(batch, fits, 1, axes + 1): 1 / (C n) for each axis, and 0 for the intercept."""
    features: Tensor
    """(batch, axes + 1, features + 1): the map from a gradient along the axes to a gradient with
    respect to the features' weights."""
    reach: Tensor
    """(batch,): length of the longest column of ``features``, a bound for entries of the mapped
    gradient."""

    @classmethod
    def of(
        cls, axes: PrincipalAxes, y: Tensor, strengths: Tensor, num_classes: int, weights: Tensor
    ) -> "_Problem":
        """Return the problem of each batch row, with weights normalised to a sum of 1."""
        Z = pad(axes.rows, (0, 1), value=1.0)
        sizes = weights.sum(2, keepdim=True)
        weights = weights / sizes
        classes = torch.arange(num_classes, device=y.device)
        member = (y.unsqueeze(1) == classes.unsqueeze(1)).to(Z.dtype)
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
        """Return weights of zero, (batch, fits, classes, axes + 1)."""
        return torch.zeros_like(self.moments)

    def curvature(self, W: Tensor) -> Tensor:
        """Return the diagonal of the Hessian at weights W, bounded away from zero.

        The shape is (batch, fits, classes * (axes + 1)).
        """
        chance = self._scores(W).softmax(2)
        spread = (chance * (1 - chance)).mul_(self.weights.unsqueeze(2))
        squares = torch.bmm(spread.flatten(1, 2), self.squares).view(self.moments.shape)
        bound = (torch.bmm(self.weights, self.squares) / 2).unsqueeze(2) + self.penalty
        return torch.maximum(squares + self.penalty, 1e-6 * bound).flatten(2)

    def at_most(self, gradient: Tensor) -> Tensor:
        """Return an upper bound of :meth:`largest`, (batch, fits).

        The bound avoids the cost of :meth:`largest` if there are many more features than rows.
        """
        batch, _, _, axes = self.moments.shape
        features = self.features.shape[2]
        if features <= WIDE or features <= WIDE_SHARE * axes:
            return self.largest(gradient)
        lengths = gradient.view(self.moments.shape).norm(dim=3).amax(2)
        return lengths * self.reach.view(batch, 1)

    def largest(self, gradient: Tensor) -> Tensor:
        """Return the largest entry of each gradient in the features' weights, (batch, fits)."""
        batch, fits, classes, axes = self.moments.shape
        of_features = torch.bmm(gradient.view(batch, fits * classes, axes), self.features)
        return of_features.abs_().view(batch, fits, -1).amax(2)

    def __call__(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective and the gradient at weights W.

        The shapes are (batch, fits) and (batch, fits, classes * (axes + 1)).
        """
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
        """Return the scores of all rows, (batch, fits, classes, rows)."""
        batch, fits, classes, features = self.moments.shape
        scores = torch.bmm(W.view(batch, fits * classes, features), self.Z.mT)
        return scores.view(batch, fits, classes, -1)


def _lbfgs(problem: _Problem, start: Tensor | None, tolerance: float) -> tuple[Tensor, Tensor]:
    """Minimise all problems of a batch; return weights and the largest entry of each gradient.

    Each step evaluates the objective once. A problem with a good trial point moves there and gets a
    new direction; any other problem tries again with a shorter step. On a convex objective a trial
    point is good if the slope along the step is still negative there, or if the objective has
    decreased. A row of the batch leaves as soon as all its fits are solved.
    """
    shape = problem.moments.shape
    W = (problem.zeros() if start is None else start).flatten(2)
    solution = W.clone()
    residual = W.new_zeros(shape[:2])
    alive = torch.arange(len(W), device=W.device)
    slack = 8 * torch.finfo(W.dtype).eps
    value, gradient = problem(W)
    # These tensors only have the right shapes; step 0 measures the curvature and replaces them.
    scale = direction = gradient
    slope = length = stretch = value
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for taken in range(MAX_STEPS):
        largest = problem.at_most(gradient)
        is_open = largest > tolerance
        rows = is_open.any(1)
        count = int(rows.sum())
        if count <= 0.75 * len(W):
            solution[alive] = W
            residual[alive] = problem.largest(gradient)
            if count == 0:
                break
            problem = problem[rows]
            alive = alive[rows]
            W = W[rows]
            gradient = gradient[rows]
            direction = direction[rows]
            scale = scale[rows]
            value = value[rows]
            slope = slope[rows]
            length = length[rows]
            stretch = stretch[rows]
            pairs = [(s[rows], y[rows], r[rows]) for s, y, r in pairs]
            is_open = is_open[rows]
        if taken in CURVATURE_STEPS:
            scale = 1 / problem.curvature(W)
            pairs = []
            direction = -scale * gradient
            slope = _dot(gradient, direction)
            length = torch.ones_like(length)
            stretch = torch.ones_like(stretch)
        length = length * is_open
        step = direction * length.unsqueeze(2)
        trial = W + step
        new_value, new_gradient = problem(trial)
        new_slope = _dot(new_gradient, direction)
        expected = value + 1e-4 * length * slope + slack * value.abs()
        is_good = (new_slope <= 0) | (new_value <= expected)
        change = new_gradient - gradient
        curvature = length * (new_slope - slope)
        is_useful = is_good & (curvature > 0)
        inverse = torch.where(is_useful, 1 / curvature, 0.0)
        pairs = [*pairs[1 - MEMORY :], (step, change, inverse)]
        stretch = torch.where(is_useful, curvature / _dot(change, scale * change), stretch)
        value = torch.where(is_good, new_value, value)
        if is_good.all():
            W = trial
            gradient = new_gradient
            direction = _quasi_newton_direction(gradient, pairs, scale, stretch)
            slope = _dot(gradient, direction)
            length = torch.ones_like(length)
        else:
            moves = is_good.unsqueeze(2)
            W = torch.where(moves, trial, W)
            gradient = torch.where(moves, new_gradient, gradient)
            new_direction = _quasi_newton_direction(gradient, pairs, scale, stretch)
            direction = torch.where(moves, new_direction, direction)
            shorter = length * (slope / (slope - new_slope)).clamp(0.1, 0.5)
            slope = _dot(gradient, direction)
            length = torch.where(is_good, 1.0, shorter)
    else:
        solution[alive] = W
        residual[alive] = problem.largest(gradient)
    return solution.view(shape), residual


def _quasi_newton_direction(
    gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], scale: Tensor, stretch: Tensor
) -> Tensor:
    """Return the quasi-Newton direction by the two-loop recursion.

    A pair with an inverse curvature of 0 has no effect.
    """
    q = -gradient
    shares = []
    for step, change, inverse in reversed(pairs):
        shares.append(_dot(step, q).mul_(inverse))
        q.addcmul_(change, shares[-1].unsqueeze(2), value=-1)
    q.mul_(scale).mul_(stretch.unsqueeze(2))
    for (step, change, inverse), share in zip(pairs, reversed(shares), strict=True):
        q.addcmul_(step, (share - _dot(change, q) * inverse).unsqueeze(2))
    return q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)
