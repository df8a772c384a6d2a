"""datasets of twonines."""
