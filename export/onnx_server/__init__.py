"""Serve the ONNX artifact of a run over HTTP; needs neither ktransfer nor Keras."""
