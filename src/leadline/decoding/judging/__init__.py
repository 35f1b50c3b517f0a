"""Judgements of answers: audits, comparisons, search-error rates, and the work of beam search."""
