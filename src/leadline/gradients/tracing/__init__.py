"""Recording of a forward pass, and the gradients of a loss at every timestep of it."""
