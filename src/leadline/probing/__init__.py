"""What a representation is worth downstream: probes on frozen features, many at once."""

from leadline.probing.agreement import RankAgreement, rank_agreement
from leadline.probing.efficiency import LabelEfficiency
from leadline.probing.linear import LinearProbe, linear_probe
from leadline.probing.logistic import LogisticFits, fit_logistic
from leadline.probing.neighbours import KNNProbe, knn_probe
from leadline.probing.rank import rank_me
from leadline.probing.ridge import RidgeProbe, ridge_probe
from leadline.probing.scaling import Scaling
from leadline.probing.study import label_efficiency
from leadline.probing.transfer import TransferMatrix, resized, transfer_matrix
from leadline.probing.tuning import FineTuned, fine_tune

__all__ = [
    "FineTuned",
    "KNNProbe",
    "LabelEfficiency",
    "LinearProbe",
    "LogisticFits",
    "RankAgreement",
    "RidgeProbe",
    "Scaling",
    "TransferMatrix",
    "fine_tune",
    "fit_logistic",
    "knn_probe",
    "label_efficiency",
    "linear_probe",
    "rank_agreement",
    "rank_me",
    "resized",
    "ridge_probe",
    "transfer_matrix",
]
