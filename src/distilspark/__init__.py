"""Fine-tune DistilBERT on GLUE with Spark, MLflow and Hydra; score any amount of text in Spark."""

__version__ = "0.2.0"
