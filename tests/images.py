"""Small images that tests draw into their own folders."""

from pathlib import Path

import numpy as np
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"
FLOWERS = SHARED / "data" / "flowers"


def draw(path, *, seed=0, size=(24, 16), **options):
    """Write an RGB image of smooth random colours, `size` (width, height) pixels; return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)
    return str(path)


def class_folders(root, counts):
    """A folder of class folders: `counts[name]` different images of each class; return `root`."""
    for label, (name, count) in enumerate(counts.items()):
        for index in range(count):
            draw(Path(root, name, f"{index:03d}.png"), seed=1000 * label + index)
    return Path(root)
