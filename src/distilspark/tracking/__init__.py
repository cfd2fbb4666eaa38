"""MLflow: runs, datasets, the registry, a run's description."""
