"""Image files decoded and resized inside a TensorFlow graph."""
