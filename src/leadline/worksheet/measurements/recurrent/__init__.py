"""Measurements of section 2, on real recurrent networks and their traced gradients; a file for each statement."""
