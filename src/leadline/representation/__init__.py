"""What is a representation of your own data worth? The whole study in one call."""

from leadline.representation.material import Material, gather
from leadline.representation.represent import represent
from leadline.representation.study import RepresentationStudy

__all__ = ["Material", "RepresentationStudy", "gather", "represent"]
