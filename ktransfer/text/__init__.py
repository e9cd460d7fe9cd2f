"""Texts: sources, datasets, augmentation, tokenizers, backbones, serving."""
