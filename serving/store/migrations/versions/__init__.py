"""One module a step, in one line."""
