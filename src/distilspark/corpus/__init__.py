"""The generated sample corpus: words, templates, contrasts of acceptability, and scenes with graded similarity."""
