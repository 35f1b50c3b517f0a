"""The soundings of gradients: flow, influence, weight terms, stability and cures."""
