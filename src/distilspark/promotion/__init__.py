"""The promotion gate between challenger and champion, and its evidence."""
