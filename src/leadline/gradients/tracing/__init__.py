"""Records the forward pass of an unchanged model and computes the gradient of a loss at every timestep."""
