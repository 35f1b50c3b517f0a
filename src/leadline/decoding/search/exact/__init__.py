"""Exact search: the best sequences with a proof, by best-first search."""
