"""Searches over the step protocol, and the base classes and hypotheses that they share."""
