"""The pretraining corpus: sixty kinds of images that formulas draw, none of them a thing of the target task.

After Kataoka et al. 2020, "Pre-training without Natural Images" (classes are the parameters of a formula,
images are jittered around them) and Baradad et al. 2021, "Learning to See by Looking at Noise" (dead leaves
and noise with natural spectra).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.demo import DEMO_IMAGE_SIZE
from ktransfer.demo.canvas import Pen, arc, compose
from ktransfer.demo.textures import TEXTURES, dead_leaves
from ktransfer.errors import DataError

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def draw_pretraining(kind: str, rng: np.random.Generator, size: int = DEMO_IMAGE_SIZE) -> Array:
    """Draw one image of the pretraining corpus.

    Args:
        kind: One of `PRETRAINING_KINDS`.
        rng: `numpy.random.Generator`; the image depends on nothing else.
        size: Side in pixels.

    Returns:
        uint8 `(size, size, 3)`, RGB.

    Raises:
        DataError: `kind` is not in the corpus.

    Example:

        >>> draw_pretraining("stripes", np.random.default_rng(0)).shape
        (64, 64, 3)
    """
    if kind not in PRETRAINING_KINDS:
        raise DataError(
            f"Expected a kind of the pretraining corpus, got {kind!r}. Name one of PRETRAINING_KINDS."
        )
    if kind in TEXTURES:
        return compose(rng, TEXTURES[kind](rng, size), roughness=25)
    if kind in _LEAF_CORNERS:
        return dead_leaves(rng, size, _LEAF_CORNERS[kind])
    pen = Pen(rng, size)
    if kind in _FIGURES:
        _FIGURES[kind](pen, rng)
    else:
        family, number = kind.rsplit("_", 1)
        _FAMILIES[family][0](pen, rng, int(number))
    return compose(rng, pen.mask(), contrast=30, roughness=45, clutter=6)


def _star(pen: Pen, rng: np.random.Generator, corners: int, inner: float) -> None:
    reach = np.tile([1.0, inner * rng.uniform(0.9, 1.1)], corners)
    pen.polygon(arc(0, 0, 1, 1, count=2 * corners + 1)[:-1] * reach[:, None])


def _crescent(pen: Pen, rng: np.random.Generator) -> None:
    pen.ellipse(0, 0, 0.9, 0.9)
    pen.ellipse(rng.uniform(0.35, 0.55), 0, 0.75, 0.75, ink=0)


def _ring(pen: Pen, rng: np.random.Generator) -> None:
    pen.ellipse(0, 0, 0.9, 0.9)
    pen.ellipse(0, 0, *rng.uniform(0.4, 0.65, 2), ink=0)


def _plus(pen: Pen, rng: np.random.Generator) -> None:
    width = rng.uniform(0.25, 0.6)
    pen.line([(-0.85, 0), (0.85, 0)], width)
    pen.line([(0, -0.85), (0, 0.85)], width)


def _arrow(pen: Pen, rng: np.random.Generator) -> None:
    head = rng.uniform(0.4, 0.7)
    pen.line([(-0.9, 0), (0.2, 0)], rng.uniform(0.15, 0.35))
    pen.polygon([(0.1, -head), (0.95, 0), (0.1, head)])


def _spiral(pen: Pen, rng: np.random.Generator) -> None:
    angle = np.linspace(0, rng.uniform(9, 15), 60)
    pen.line(
        np.stack([np.cos(angle), np.sin(angle)], 1) * (angle / angle[-1])[:, None], rng.uniform(0.1, 0.18)
    )


def _rose(pen: Pen, rng: np.random.Generator) -> None:
    angle = np.linspace(0, 2 * np.pi, 90)
    reach = np.abs(np.cos(rng.integers(3, 5) / 2 * angle)) * 0.85 + 0.1
    pen.polygon(np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None])


def _zigzag(pen: Pen, rng: np.random.Generator) -> None:
    count = rng.integers(5, 9)
    height = np.where(np.arange(count) % 2, 1, -1) * rng.uniform(0.3, 0.6)
    pen.line(np.stack([np.linspace(-0.95, 0.95, count), height], 1), rng.uniform(0.12, 0.25))


_FIGURES = {
    "triangle": lambda pen, rng: _star(pen, rng, 3, 0.5),
    "square": lambda pen, rng: _star(pen, rng, 4, 0.71),
    "hexagon": lambda pen, rng: _star(pen, rng, 6, 0.87),
    "star": lambda pen, rng: _star(pen, rng, 5, 0.4),
    "burst": lambda pen, rng: _star(pen, rng, 10, 0.55),
    "crescent": _crescent,
    "ring": _ring,
    "plus": _plus,
    "arrow": _arrow,
    "spiral": _spiral,
    "rose": _rose,
    "zigzag": _zigzag,
}


@cache
def _compound_parts(number: int) -> list[tuple[bool, float, float, float, float, float]]:
    """A body and three parts set around it: `(is round, x, y, half-width, half-height, angle)` each."""
    rng = np.random.default_rng([1, number])
    parts = [(bool(rng.integers(2)), 0.0, 0.0, rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.6), 0.0)]
    for angle in rng.uniform(0, 2 * np.pi) + np.array([0, 1.6, 3.4]) * rng.uniform(0.7, 1.2):
        far, long, wide = rng.uniform(0.5, 0.7), rng.uniform(0.25, 0.5), rng.uniform(0.07, 0.25)
        parts.append(
            (
                bool(rng.integers(2)),
                far * np.cos(angle),
                far * np.sin(angle),
                long,
                wide,
                angle + rng.normal(0, 0.6),
            )
        )
    return parts


def _compound(pen: Pen, rng: np.random.Generator, number: int) -> None:
    for is_round, x, y, width, height, angle in _compound_parts(number):
        x, y = np.array([x, y]) + rng.normal(0, 0.04, 2)
        width, height = np.array([width, height]) * rng.uniform(0.8, 1.2, 2)
        outline = (
            arc(0, 0, width, height)
            if is_round
            else np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width, height)
        )
        angle += rng.normal(0, 0.12)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        pen.polygon(outline @ turn + (x, y))


def _contour(pen: Pen, rng: np.random.Generator, number: int) -> None:
    own = np.random.default_rng([2, number])
    angle, reach = np.linspace(0, 2 * np.pi, 80, endpoint=False), 0.6
    for wave in range(1, 6):
        strength, phase = own.normal(0, 0.25 / np.sqrt(wave)), own.uniform(0, 2 * np.pi)
        reach = reach + strength * rng.uniform(0.8, 1.2) * np.cos(wave * angle + phase + rng.normal(0, 0.1))
    outline = np.stack([np.cos(angle), np.sin(angle)], 1) * np.clip(reach, 0.08, 1.1)[:, None]
    pen.polygon(outline)
    if own.random() < 0.5:
        pen.polygon(outline * rng.uniform(0.5, 0.65), ink=0)


def _glyph(pen: Pen, rng: np.random.Generator, number: int) -> None:
    own = np.random.default_rng([3, number])
    width = rng.uniform(0.12, 0.28)
    for _ in range(own.integers(2, 4)):
        knots = own.uniform(-0.9, 0.9, (3, 2)) + rng.normal(0, 0.06, (3, 2))
        t = np.linspace(0, 1, 12)[:, None]
        pen.line((1 - t) ** 2 * knots[0] + 2 * t * (1 - t) * knots[1] + t**2 * knots[2], width)


@cache
def _fractal_code(number: int) -> Array:
    """Affine maps `(K, 2, 3)` whose attractor is neither a dust nor a blob."""
    rng = np.random.default_rng([4, number])
    while True:
        maps = rng.uniform(-1, 1, (rng.integers(2, 5), 2, 3))
        strength = np.linalg.norm(maps[:, :, :2], ord=2, axis=(1, 2))
        maps[:, :, :2] *= (rng.uniform(0.5, 0.85, len(maps)) / strength)[:, None, None]
        points = _attractor(rng, maps)
        cells = np.unique((points * 12 + 16).astype(int), axis=0)
        if 130 <= len(cells) <= 330:
            return maps


def _attractor(rng: np.random.Generator, maps: Array) -> Array:
    """`(8000, 2)` points of the maps' attractor, by the chaos game, scaled to -1 to 1."""
    weight = np.abs(np.linalg.det(maps[:, :, :2])) + 0.02
    points, seen = rng.uniform(-1, 1, (400, 2)), []
    for step in range(32):
        chosen = maps[rng.choice(len(maps), len(points), p=weight / weight.sum())]
        points = np.einsum("nij,nj->ni", chosen[:, :, :2], points) + chosen[:, :, 2]
        if step >= 12:
            seen.append(points)
    points = np.concatenate(seen)
    low, high = np.percentile(points, [2, 98], axis=0)
    return (points - (low + high) / 2) / max((high - low).max() / 2, 1e-6)


def _fractal(pen: Pen, rng: np.random.Generator, number: int) -> None:
    maps = _fractal_code(number)
    pen.points(_attractor(rng, maps * rng.uniform(0.9, 1.1, maps.shape)))


_FAMILIES = {
    "compound": (_compound, 10),
    "contour": (_contour, 8),
    "glyph": (_glyph, 8),
    "fractal": (_fractal, 6),
}


_LEAF_CORNERS = {"leaves_round": 24, "leaves_pointed": 3}

PRETRAINING_KINDS = (
    *_FIGURES,
    *(f"{family}_{number}" for family, (_, count) in _FAMILIES.items() for number in range(count)),
    *TEXTURES,
    *_LEAF_CORNERS,
)
"""The kinds of the corpus, in label order."""
