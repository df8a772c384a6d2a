"""benchmarks of twonines."""
