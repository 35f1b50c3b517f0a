"""What is a representation of your own data worth? The whole study in one call."""

from leadline.representation._material import Material, gather
from leadline.representation._represent import STAGES as STAGES

# For other packages of Leadline; not public.
from leadline.representation._represent import Progress as Progress
from leadline.representation._represent import represent
from leadline.representation._study import RepresentationStudy

__all__ = ["Material", "RepresentationStudy", "gather", "represent"]
