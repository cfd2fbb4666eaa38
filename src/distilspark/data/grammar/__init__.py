"""The seeded grammar behind `data=sample`: words, templates, acceptability contrasts and graded scenes."""
