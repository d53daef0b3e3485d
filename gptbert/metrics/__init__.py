"""Scores in pure NumPy, all of them fractions: GLUE's, and what to say of several runs."""
