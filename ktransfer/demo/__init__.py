"""The embedded demo: a small task and a backbone, both made from the project's own drawings."""

from pathlib import Path

PRESET_PATH = Path(__file__).parent / "preset"
"""Folder of the shipped keras-hub preset; `pretrain.py` made it."""

DEMO_IMAGE_SIZE = 64
"""Side of the square images, in pixels, that the preset was trained on and the demo draws."""

DEMO_CLASSES = ("boat", "fish", "key", "lamp", "mug", "umbrella")
"""Classes of the target task, in label order; none of them occurs in pretraining."""
