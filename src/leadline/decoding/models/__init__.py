"""Models that a search can run: tables, language models, Hugging Face models, and constraints."""
