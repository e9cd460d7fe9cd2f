"""The networks that `train` builds."""

from ktransfer.image.network import image_network
from ktransfer.text.network import text_network

__all__ = ["image_network", "text_network"]
