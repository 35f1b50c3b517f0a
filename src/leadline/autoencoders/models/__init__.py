"""Architectures: dense autoencoders, patches, masked transformers, and modules of the caller."""
