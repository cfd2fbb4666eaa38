"""From rows to network inputs: stop words, WordPiece encoding, batches of like length, a profile."""
