"""Measure a model against manual inspection, and report it."""
