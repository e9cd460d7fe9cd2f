"""From what a person has on disk to batches of pixels and labels.

`sources` reads it, `examples` holds it, `checks` finds what cannot be decoded, `images` decodes and resizes,
`augmentation` says how training images vary; only `pipeline` and `augment_ops` import TensorFlow.
"""
