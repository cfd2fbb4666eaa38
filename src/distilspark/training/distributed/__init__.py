"""Training on several processes: strategies, collectives, shards, the Spark stage."""
