"""The gate between challenger and champion, and the evidence that it weighs."""
