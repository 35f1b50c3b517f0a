"""Kinds of probes that a study of label efficiency fits, one class for each kind.

A new kind is a subclass of :class:`StudyProbe` and an entry in :data:`STUDY_PROBES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline import checks
from leadline.data import Roles, check_labels
from leadline.errors import InputError
from leadline.probing.probes._checks import majority_share
from leadline.probing.probes._linear import STRENGTHS, LogisticSettings, fit_probes
from leadline.probing.probes._ridge import RIDGE_STRENGTHS, check_quantities, solve_ridge
from leadline.probing.studies._label_efficiency import Measure

TESTED_ROLES = ("probe_validation", "test")
"""Roles whose rows a probe predicts."""


class LinearMaps(NamedTuple):
    """Linear maps from scaled features to outputs, one for each problem of a batch."""

    W: Float[Tensor, "batch outputs d"]
    b: Float[Tensor, "batch outputs"]
    strengths: Float[Tensor, " batch"]
    """The value of C of each problem."""


class StudyProbe(ABC):
    """A kind of linear probe: its target, its fit and its score."""

    measure: ClassVar[Measure]
    """The score that the probe reports."""
    strengths: ClassVar[tuple[float, ...]]
    """Values of C to choose from by default."""

    @abstractmethod
    def check_target(self, y: Any, n: int) -> np.ndarray:
        """Return the target of ``n`` rows, shape (n,); refuse what the probe cannot predict."""

    @abstractmethod
    def strata(self, target: np.ndarray) -> np.ndarray:
        """Return class indices by which label subsets are stratified."""

    @abstractmethod
    def check_roles(self, target: np.ndarray, roles: Sequence[Roles]) -> None:
        """Refuse roles whose test rows have no defined score."""

    @abstractmethod
    def fit(self, Z: Tensor, y: Tensor, settings: LogisticSettings) -> LinearMaps:
        """Fit a probe to each problem.

        Args:
            Z: scaled features of shape (batch, rows, d).
            y: target of shape (batch, rows).
            settings: strengths to choose from, and the criterion of the choice.
        """

    @abstractmethod
    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the score of each problem.

        Args:
            outputs: outputs of shape (batch, rows, outputs).
            y: target of shape (rows,).
        """

    @abstractmethod
    def majority(self, target: np.ndarray, roles: Sequence[Roles]) -> np.ndarray | None:
        """Return the share of the largest class in each test role, or ``None`` for a quantity."""


class LogisticStudyProbe(StudyProbe):
    """Logistic regression of a class."""

    measure = "accuracy"
    strengths = STRENGTHS

    def check_target(self, y: Any, n: int) -> np.ndarray:
        """Return the index of each row's class among the classes of all rows."""
        labels = check_labels(checks.array(y, "y"), n)
        return np.unique(labels, return_inverse=True)[1]

    def strata(self, target: np.ndarray) -> np.ndarray:
        """Return the classes."""
        return target

    def check_roles(self, target: np.ndarray, roles: Sequence[Roles]) -> None:
        """Refuse test rows of a class that has no row in the probe pool."""
        for i, role in enumerate(roles):
            for part in TESTED_ROLES:
                rows = getattr(role, part)
                is_unknown = ~np.isin(target[rows], target[role.probe_pool])
                if is_unknown.any():
                    row = int(rows[int(np.argmax(is_unknown))])
                    raise InputError(
                        "roles must put a row of each tested class into the probe pool: a probe "
                        "never predicts other classes",
                        got=f"the class of row {row}, in roles[{i}].{part}, is not in its "
                        "probe_pool",
                        cure="split with labels, split_roles(y, seed=0), or leave the class out",
                    )

    def fit(self, Z: Tensor, y: Tensor, settings: LogisticSettings) -> LinearMaps:
        """Fit a logistic regression to each problem."""
        solution = fit_probes(Z, y, int(y.max()) + 1, settings)
        return LinearMaps(
            solution.fits.coefficients.squeeze(1),
            solution.fits.intercepts.squeeze(1),
            solution.strengths,
        )

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the share of rows that are classified correctly."""
        return (outputs.argmax(2) == y).double().mean(1)

    def majority(self, target: np.ndarray, roles: Sequence[Roles]) -> np.ndarray:
        """Return the share of the largest class in each test role."""
        return np.array([majority_share(target[role.test]) for role in roles])


class RidgeStudyProbe(StudyProbe):
    """Ridge regression of a quantity."""

    measure = "R²"
    strengths = RIDGE_STRENGTHS

    def check_target(self, y: Any, n: int) -> np.ndarray:
        """Return one quantity for each row."""
        quantities = check_quantities(y, n, "y")
        if quantities.shape[1] > 1:
            raise InputError(
                "label_efficiency() needs one quantity: y of shape (n,)",
                got=f"y with {quantities.shape[1]} columns",
                cure="measure each column, y[:, 0], or fit ridge_probe(), which takes several",
            )
        return quantities[:, 0]

    def strata(self, target: np.ndarray) -> np.ndarray:
        """Return 1 for quantities above the mean and 0 for others."""
        return (target > target.mean()).astype(np.int64)

    def check_roles(self, target: np.ndarray, roles: Sequence[Roles]) -> None:
        """Refuse test rows on which the quantity is constant, because R² is then undefined."""
        for i, role in enumerate(roles):
            for part in TESTED_ROLES:
                rows = getattr(role, part)
                if np.ptp(target[rows]) == 0:
                    plural = "s" * (len(rows) != 1)
                    raise InputError(
                        "y must vary on the test rows and on the probe-validation rows, because "
                        "R² is undefined otherwise",
                        got=f"roles[{i}].{part} holds {len(rows)} row{plural} of one value",
                        cause="very few rows in this role",
                        cure="give the role a larger share in split_roles(fractions=...)",
                    )

    def fit(self, Z: Tensor, y: Tensor, settings: LogisticSettings) -> LinearMaps:
        """Fit a ridge regression to each problem; its leave-one-out error chooses C."""
        strengths = np.array(settings.strengths)
        weights = []
        intercepts = []
        chosen = []
        for rows, quantity in zip(Z, y, strict=True):
            _, W, b, C = solve_ridge(
                rows[None].double().numpy(), quantity[None, :, None].numpy(), strengths
            )
            weights.append(W)
            intercepts.append(b)
            chosen.append(C)
        return LinearMaps(
            torch.from_numpy(np.concatenate(weights)).to(Z.dtype),
            torch.from_numpy(np.concatenate(intercepts)).to(Z.dtype),
            torch.from_numpy(np.concatenate(chosen)),
        )

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the share of the variance that is explained."""
        squared_error = ((outputs.squeeze(2).double() - y) ** 2).mean(1)
        return 1 - squared_error / y.var(correction=0)

    def majority(self, target: np.ndarray, roles: Sequence[Roles]) -> None:
        """Return ``None``: a quantity has no classes."""
        return


STUDY_PROBES: Mapping[str, StudyProbe] = {
    "logistic": LogisticStudyProbe(),
    "ridge": RidgeStudyProbe(),
}
"""The kinds of probes by the names that ``label_efficiency(probe=...)`` accepts."""
