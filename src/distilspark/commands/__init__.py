"""One small file a command; they alone tie the packages together."""
