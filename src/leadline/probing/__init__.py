"""What a representation is worth downstream: probes on frozen features, many at once."""

from leadline.probing.probes._fine_tuning import FineTuned, fine_tune

# For other packages of Leadline; not public.
from leadline.probing.probes._linear import STRENGTHS as STRENGTHS
from leadline.probing.probes._linear import LinearProbe, linear_probe
from leadline.probing.probes._linear import solve_probes as solve_probes
from leadline.probing.probes._logistic import LogisticFits, fit_logistic
from leadline.probing.probes._neighbours import KNNProbe, knn_probe
from leadline.probing.probes._rank_me import rank_me
from leadline.probing.probes._representation import majority_share as majority_share
from leadline.probing.probes._representation import principal_components as principal_components
from leadline.probing.probes._ridge import RidgeProbe, ridge_probe
from leadline.probing.probes._scaling import Scaling
from leadline.probing.probes._scaling import exact_features as exact_features
from leadline.probing.probes._scaling import features as features
from leadline.probing.studies._label_efficiency import LabelEfficiency
from leadline.probing.studies._label_efficiency import meets as meets
from leadline.probing.studies._label_efficiency import needs as needs
from leadline.probing.studies._label_efficiency import seeds_in_words as seeds_in_words
from leadline.probing.studies._rank_agreement import RankAgreement, rank_agreement
from leadline.probing.studies._study import MOST_SUBSETS as MOST_SUBSETS
from leadline.probing.studies._study import TOLERANCE as TOLERANCE
from leadline.probing.studies._study import label_efficiency
from leadline.probing.studies._transfer_matrix import TransferMatrix, resized, transfer_matrix

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
