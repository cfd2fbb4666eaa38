"""The packaged model: raw text in, predictions out, without TensorFlow."""
