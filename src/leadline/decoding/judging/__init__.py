"""Checks of answers: audits, comparisons, search-error rates, and the rules for answers given by the caller."""
