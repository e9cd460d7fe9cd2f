"""The corpus' textures: fields without a figure, and dead leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.demo.canvas import Pen, arc, colours, finish, grid, noise

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def _sites(rng: np.random.Generator, size: int, count: int) -> tuple[Array, Array, Array]:
    """Distances to the nearest and second nearest of `count` random sites, and the nearest's number."""
    axis = np.linspace(0, 1, size)
    x, y = rng.uniform(-0.1, 1.1, (2, count))
    far = (axis[None, :, None] - x) ** 2 + (axis[:, None, None] - y) ** 2
    two = np.sqrt(np.partition(far, 1, axis=2)[..., :2])
    return two[..., 0], two[..., 1], far.argmin(axis=2)


def _cells(rng: np.random.Generator, size: int) -> Array:
    nearest = _sites(rng, size, int(rng.integers(8, 30)))[2]
    return rng.random(nearest.max() + 1)[nearest]


def _cracks(rng: np.random.Generator, size: int) -> Array:
    first, second, _ = _sites(rng, size, int(rng.integers(8, 30)))
    return np.clip((second - first) * rng.uniform(12, 25), 0, 1)


def _waves(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(rng, size)
    return np.sin((x + 0.15 * np.sin(y * rng.uniform(4, 9))) * rng.uniform(12, 35)) / 2 + 0.5


def _checks(rng: np.random.Generator, size: int) -> Array:
    x, y = (np.sin(a * rng.uniform(8, 22)) for a in grid(rng, size))
    return np.clip(x * y * 4 + 0.5, 0, 1)


def _dots(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(rng, size)
    each = rng.uniform(10, 24)
    return np.clip((np.cos(x * each) + np.cos(y * each) - rng.uniform(0, 0.8)) * 3, 0, 1)


def _bricks(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(rng, size)
    tall, long = rng.uniform(2.5, 6), rng.uniform(1.2, 3)
    row = np.floor(y * tall)
    gap = np.minimum((y * tall) % 1, ((x * long + 0.5 * (row % 2)) % 1) * tall / long)
    return np.clip((gap - 0.1) * 8, 0, 1)


def _maze(rng: np.random.Generator, size: int) -> Array:
    """Noise of one scale cut along a level line: the look that reaction and diffusion leave behind."""
    fine = noise(rng, size, cells=rng.uniform(7, 13), octaves=1)
    return np.clip((np.abs(fine - 0.5) * 2 - 0.25) * 6, 0, 1)


def _rings(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(rng, size)
    return np.sin(np.hypot(x, y * rng.uniform(0.7, 1.4)) * rng.uniform(12, 35)) / 2 + 0.5


def _rays(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(rng, size)
    return np.clip(np.sin(np.arctan2(y, x) * rng.integers(5, 14)) * 2 + 0.5, 0, 1)


def _marble(rng: np.random.Generator, size: int) -> Array:
    bend = noise(rng, size, cells=2, octaves=3) * rng.uniform(8, 16)
    return np.sin(grid(rng, size)[0] * rng.uniform(3, 9) + bend) / 2 + 0.5


def _hatching(rng: np.random.Generator, size: int) -> Array:
    pen = Pen(rng, size, scale=(0.95, 1.3), shift=0.1)
    for x, y in rng.uniform(-1.2, 1.2, (rng.integers(25, 60), 2)):
        dx, dy = rng.normal(0, 0.04), rng.uniform(0.1, 0.3)
        pen.line([(x - dx, y - dy), (x + dx, y + dy)], 0.06)
    return pen.mask()


TEXTURES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "stripes": lambda rng, size: np.clip(np.sin(grid(rng, size)[0] * rng.uniform(9, 40)) * 2 + 0.5, 0, 1),
    "waves": _waves,
    "checks": _checks,
    "dots": _dots,
    "bricks": _bricks,
    "rings": _rings,
    "rays": _rays,
    "marble": _marble,
    "cells": _cells,
    "cracks": _cracks,
    "hatching": _hatching,
    "maze": _maze,
    "clouds": lambda rng, size: noise(rng, size, cells=rng.uniform(1.5, 3), octaves=4),
    "grain": lambda rng, size: noise(rng, size, cells=rng.uniform(12, 30), octaves=2, falloff=1),
}
"""Name -> function of `(rng, size)` to a float `(size, size)` field from 0 to 1."""


def dead_leaves(rng: np.random.Generator, size: int, corners: int) -> Array:
    """Leaves of `corners` corners fallen on each other, sizes by a power law (Lee, Mumford & Huang 2001)."""
    image = np.broadcast_to(colours(rng, contrast=20)[0], (size, size, 3))
    palette = rng.uniform(20, 235, (6, 3)).astype(np.float32)
    for _ in range(30):
        reach = 0.08 * rng.uniform(0.02, 1) ** -0.5
        pen = Pen(rng, size, scale=(reach, reach + 0.01), shift=1)
        pen.polygon(arc(0, 0, 1, 1, count=corners + 1))
        mask = pen.mask()[..., None]
        image = image * (1 - mask) + mask * palette[rng.integers(6)]
    return finish(rng, image)
