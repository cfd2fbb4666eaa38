"""From rows to network inputs: stop words, WordPiece encoding, batches of similar length, a profile."""
