"""From a trained model to verified artifacts: SavedModel, TFLite, ONNX."""
