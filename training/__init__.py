"""training of twonines."""
