"""Measurements of section 2, on recurrent networks and their gradients; one file per statement."""
