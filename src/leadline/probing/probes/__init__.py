"""Probes: logistic regression, nearest neighbours, ridge regression and fine-tuning."""
