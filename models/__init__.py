"""models of twonines."""
