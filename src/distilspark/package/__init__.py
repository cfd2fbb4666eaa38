"""What travels with a registered model: graph, tokenizer and runtime, without TensorFlow."""
