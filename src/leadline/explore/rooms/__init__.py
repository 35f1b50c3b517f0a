"""The rooms of the explorer: gradients, representation, and search."""
