"""Answers: results of searches with their settings, scores, certificates, traces and origins."""
