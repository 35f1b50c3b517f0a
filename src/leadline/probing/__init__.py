"""What a representation is worth downstream: probes on frozen features, many at once."""

from leadline.probing.efficiency import LabelEfficiency, label_efficiency
from leadline.probing.linear import LinearProbe, linear_probe
from leadline.probing.logistic import LogisticFits, fit_logistic
from leadline.probing.scaling import Scaling

__all__ = [
    "LabelEfficiency",
    "LinearProbe",
    "LogisticFits",
    "Scaling",
    "fit_logistic",
    "label_efficiency",
    "linear_probe",
]
