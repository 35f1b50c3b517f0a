"""Probes and studies that measure the worth of frozen representations."""

from leadline.probing.encoding._rank_me import rank_me
from leadline.probing.encoding._scaling import Scaling
from leadline.probing.probes._fine_tuning import FineTuned, fine_tune
from leadline.probing.probes._linear import LinearProbe, linear_probe
from leadline.probing.probes._neighbours import KNNProbe, knn_probe
from leadline.probing.probes._ridge import RidgeProbe, ridge_probe
from leadline.probing.studies._label_efficiency import LabelEfficiency
from leadline.probing.studies._rank_agreement import RankAgreement, rank_agreement
from leadline.probing.studies._study import label_efficiency
from leadline.probing.studies._transfer_matrix import TransferMatrix, transfer_matrix

# isort: split
# For other packages of Leadline; not public.
from leadline.probing.encoding._principal_components import (
    principal_components as principal_components,
)
from leadline.probing.probes._linear import LogisticSettings as LogisticSettings
from leadline.probing.probes._linear import fit_probes as fit_probes
from leadline.probing.probes._logistic import fit_logistic as fit_logistic
from leadline.probing.studies._settings import LabelEfficiencySettings as LabelEfficiencySettings

__all__ = [
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
]
