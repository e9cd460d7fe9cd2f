"""Images: sources, decoding, datasets, augmentation, backbones, serving."""
