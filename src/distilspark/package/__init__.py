"""The parts of a registered model: graph, tokenizer and runtime, without TensorFlow."""
