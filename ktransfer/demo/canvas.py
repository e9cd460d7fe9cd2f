"""The elements of every drawing: a pen with its own coordinates, noise, surfaces and compositing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


SUPERSAMPLE = 3  # masks are drawn this many times larger, then averaged down: smooth edges


class Pen:
    """Draws a mask in coordinates that run from -1 to 1, x to the right and y down, under a random pose.

    Args:
        rng: `numpy.random.Generator` that the pose is drawn from.
        size: Side of the mask in pixels.
        scale: Range of the half-width of the unit square, as a fraction of half the image.
        tilt: Largest rotation either way, in radians.
        shift: Largest shift along each axis, as a fraction of half the image.

    Example:

        >>> pen = Pen(np.random.default_rng(0), 64)
        >>> pen.ellipse(0, 0, 1, 0.5)
        >>> pen.mask().shape
        (64, 64)
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        *,
        scale: tuple[float, float] = (0.5, 0.95),
        tilt: float = np.pi,
        shift: float = 0.3,
    ) -> None:
        self._size = size
        self._image = Image.new("L", (size * SUPERSAMPLE, size * SUPERSAMPLE))
        self._draw = ImageDraw.Draw(self._image)
        angle, reach = rng.uniform(-tilt, tilt), rng.uniform(*scale)
        stretch, shear = rng.uniform(0.8, 1.25), rng.uniform(-0.2, 0.2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._half = reach * size * SUPERSAMPLE / 2
        self._matrix = self._half * turn @ np.array([[stretch, shear], [0, 1 / stretch]])
        room = max(0.0, 1 - reach) + 0.1  # so that little of the drawing leaves the image
        self._centre = (1 + rng.uniform(-1, 1, 2) * min(shift, room)) * size * SUPERSAMPLE / 2

    def polygon(self, points: Array | Sequence[tuple[float, float]], *, ink: int = 255) -> None:
        """Fill the polygon through `points`, `(N, 2)`; `ink=0` cuts it out again."""
        self._draw.polygon(self._place(points), fill=ink)

    def ellipse(self, x: float, y: float, width: float, height: float, *, ink: int = 255) -> None:
        """Fill an ellipse by its centre and half-axes."""
        self.polygon(arc(x, y, width, height), ink=ink)

    def line(self, points: Array | Sequence[tuple[float, float]], width: float, *, ink: int = 255) -> None:
        """Draw a polyline through `points`, `(N, 2)`, with round ends; `width` in the pen's units."""
        placed, pixels = self._place(points), max(2.0, width * self._half)
        self._draw.line(placed, fill=ink, width=round(pixels), joint="curve")
        for x, y in (placed[0], placed[-1]):
            r = pixels / 2
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def points(self, points: Array | Sequence[tuple[float, float]]) -> None:
        """Fill the pixels that `points`, `(N, 2)`, fall on."""
        x, y = (np.asarray(points) @ self._matrix.T + self._centre).T.astype(int)
        inside = (x >= 0) & (y >= 0) & (x < self._image.width) & (y < self._image.height)
        pixels = np.array(self._image)
        pixels[y[inside], x[inside]] = 255
        self._image = Image.fromarray(pixels)
        self._draw = ImageDraw.Draw(self._image)

    def mask(self) -> Array:
        """float32 `(size, size)`, 0 where nothing was drawn and 1 where it was."""
        return np.asarray(self._image.reduce(SUPERSAMPLE), np.float32) / 255

    def _place(self, points: Array | Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in np.asarray(points, float) @ self._matrix.T + self._centre]


def arc(
    x: float,
    y: float,
    width: float,
    height: float,
    start: float = 0.0,
    stop: float = 2 * np.pi,
    count: int = 32,
) -> Array:
    """`(count, 2)` points along an ellipse, angles in radians, clockwise from the right."""
    angle = np.linspace(start, stop, count)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def noise(
    rng: np.random.Generator, size: int, *, cells: float = 4.0, octaves: int = 3, falloff: float = 0.5
) -> Array:
    """Octave noise: float32 `(size, size)` from 0 to 1.

    `cells` is how many bumps fit the side in the first octave; each further octave doubles it and has
    `falloff` times the weight.
    """
    field = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        bumps = min(cells * 2**octave, size)
        grid = Image.fromarray(rng.random((int(bumps) + 4, int(bumps) + 4), np.float32))
        x, y = rng.uniform(1, 2, 2)
        smooth = grid.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + bumps, y + bumps))
        field += falloff**octave * np.asarray(smooth)
    return unit(field)


def unit(field: Array) -> Array:
    """`field` shifted and scaled to run from 0 to 1."""
    low, high = field.min(), field.max()
    return (field - low) / max(high - low, 1e-6)


def grid(rng: np.random.Generator, size: int, *, turn: float = np.pi) -> tuple[Array, Array]:
    """x and y, each `(size, size)` and from about -1 to 1, rotated by up to `turn` radians and shifted."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    angle = rng.uniform(-turn, turn)
    dx, dy = rng.uniform(-0.4, 0.4, 2)
    return (
        np.cos(angle) * x - np.sin(angle) * y + np.float32(dx),
        np.sin(angle) * x + np.cos(angle) * y + np.float32(dy),
    )


def colours(rng: np.random.Generator, *, contrast: int) -> Array:
    """Two random colours, float32 `(2, 3)` in 0-255, at least `contrast` apart on average."""
    while True:
        pair = rng.uniform(15, 240, (2, 3))
        pair = pair.mean(axis=1, keepdims=True) + rng.uniform(0, 1) * (
            pair - pair.mean(axis=1, keepdims=True)
        )
        if np.abs(pair[0] - pair[1]).mean() >= contrast:
            return pair.astype(np.float32)


def surface(rng: np.random.Generator, size: int, colour: Array, *, roughness: int) -> Array:
    """`(size, size, 3)` of one colour that noise, stripes or a slope lighten and darken.

    `roughness` is the largest departure from `colour`, in grey levels of 0-255.
    """
    kind = rng.integers(4)
    if kind == 0:
        field = noise(rng, size, cells=rng.uniform(1, 4), octaves=2)
    elif kind == 1:
        field = noise(rng, size, cells=rng.uniform(6, 24), octaves=2)
    elif kind == 2:
        field = np.sin(grid(rng, size)[0] * rng.uniform(5, 40)) / 2 + 0.5
    else:
        field = unit(grid(rng, size)[0])
    tint = rng.uniform(0.4, 1, 3).astype(np.float32) * rng.uniform(0.3, 1) * roughness
    return colour + (2 * field[..., None] - 1) * tint


def compose(
    rng: np.random.Generator, mask: Array, *, contrast: int = 45, roughness: int = 40, clutter: int = 0
) -> Array:
    """An image of what `mask` shows: one surface on another, soft clutter, light, blur and grain.

    Args:
        rng: `numpy.random.Generator`.
        mask: float32 `(size, size)` in 0-1: 1 is the figure, 0 the ground.
        contrast: Least mean difference between figure and ground, in grey levels of 0-255.
        roughness: Largest departure of a surface from its colour, in grey levels of 0-255.
        clutter: Most strokes of the figure's own surface laid over the image, and of the ground's.

    Returns:
        uint8 `(size, size, 3)`, RGB.
    """
    size = len(mask)
    for stroke in range(rng.integers(clutter + 1) if clutter else 0):
        pen = Pen(rng, size, scale=(0.15, 0.6), shift=0.9)
        pen.line(rng.uniform(-1, 1, (rng.integers(2, 4), 2)), rng.uniform(0.08, 0.25))
        mask = np.maximum(mask, pen.mask()) if stroke % 2 else np.minimum(mask, 1 - pen.mask())
    ground, figure = colours(rng, contrast=contrast)
    mask = mask[..., None]
    image = (1 - mask) * surface(rng, size, ground, roughness=roughness)
    image += mask * surface(rng, size, figure, roughness=roughness)
    return finish(rng, image)


def finish(rng: np.random.Generator, image: Array) -> Array:
    """Light, blur and grain on float `(size, size, 3)` in 0-255, as uint8."""
    image = 128 + (image - 128) * rng.uniform(0.75, 1.15) + rng.uniform(-20, 20)
    image += rng.normal(0, rng.uniform(0, 10), image.shape)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    return np.asarray(picture)
