"""Quantization-aware training, and which layers int8 harms."""
