"""Searches over one step protocol, and the parts that they share."""
