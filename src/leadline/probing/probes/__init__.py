"""Probes: linear, nearest neighbours, ridge, fine-tuning, and RankMe."""
