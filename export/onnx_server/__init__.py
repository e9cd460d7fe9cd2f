"""Serve the ONNX artefact of a run over HTTP; needs neither ktransfer nor Keras."""
