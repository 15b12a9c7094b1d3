"""Pure rules of labeling: no clock, network, environment or logger."""
