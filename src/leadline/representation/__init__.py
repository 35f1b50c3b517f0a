"""The worth of a representation of your own data: pretrain, choose and report in one call."""

from leadline.representation._represent import represent
from leadline.representation._study import RepresentationStudy

# isort: split
# For other packages of Leadline; not public.
from leadline.representation._pretraining import STAGES as STAGES
from leadline.representation._pretraining import Progress as Progress
from leadline.representation._settings import RepresentationSettings as RepresentationSettings

__all__ = ["RepresentationStudy", "represent"]
