"""Studies that compare representations over seeds and label counts."""
