"""Generated rows: words, templates, contrasts of acceptability, and scenes with graded similarity."""
