"""Beam search and greedy search, its case of width 1."""
