"""Features for probes: encoders of every kind, scaling, principal components and RankMe."""
