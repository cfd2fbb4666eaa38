"""Generated rows: words, templates, minimal pairs of acceptability, and scenes with graded similarity."""
