"""The Spark job that scores files with a packaged model."""
