"""From rows to what a network reads: stop words, WordPiece encoding, batches of like length."""
