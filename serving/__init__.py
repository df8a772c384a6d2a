"""serving of twonines."""
