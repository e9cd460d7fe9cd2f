"""Metrics, calibration and explanations of a classifier."""
