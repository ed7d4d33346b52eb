"""A synthetic fluorescence volume: nuclei in one channel, microtubules in the other.

Made from a fixed seed, so every run gives the same values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

F = np.ndarray[Any, Any]

SHAPE = (2, 30, 256, 256)  # c, z, y, x
PIXEL = (0.5, 0.16, 0.16)  # z, y, x in micrometres
CHANNELS = (("nuclei", "0060FF"), ("microtubules", "30FF60"))
_SEED = 7
_OFFSET = 100  # the camera's dark level


def cells() -> F:
    """The volume: uint16 of `SHAPE`."""
    rng = np.random.default_rng(_SEED)
    size = np.array(SHAPE[1:])
    centres = np.array([(14, 70, 76), (16, 172, 96), (13, 108, 188), (17, 206, 204)], float)
    nuclei, tubes = np.zeros(size), np.zeros(size)
    for centre in centres:
        radii = rng.uniform((6.5, 25, 25), (8.5, 32, 32))
        nuclei += _nucleus(rng, centre, radii)
        _draw_tubes(rng, tubes, centre, radii)
    tubes = _blur(tubes, (0.9, 1.1, 1.1))
    glow = _blur(tubes, (2.5, 7.0, 7.0))
    photons = np.stack(
        (2600 * nuclei + 60 * glow, 2300 * np.minimum(tubes / 0.55, 1.6) + 500 * glow)
    )
    # Counts of photons are Poisson; the camera adds its offset.
    counts = rng.poisson(photons / 4.0) * 4 + _OFFSET + rng.integers(0, 8, SHAPE)
    stored: F = counts.astype(np.uint16)
    return stored


def halve(volume: F) -> F:
    """Half the resolution in y and x: the mean of 2 × 2 pixels."""
    c, z, y, x = volume.shape
    means = volume.reshape(c, z, y // 2, 2, x // 2, 2).mean(axis=(3, 5))
    halved: F = np.rint(means).astype(volume.dtype)
    return halved


def _nucleus(rng: np.random.Generator, centre: F, radii: F) -> F:
    """An ellipsoid with a soft edge, mottled as chromatin is, with dark nucleoli."""
    grid = np.indices(SHAPE[1:], dtype=float)
    angle = rng.uniform(0, np.pi)
    z, y, x = (g - c for g, c in zip(grid, centre, strict=True))
    y, x = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    distance = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2] * 1.15) ** 2)
    body = 1 / (1 + np.exp((distance - 1) * 18))
    mottle = _blur(rng.standard_normal(SHAPE[1:]), (1.2, 3.0, 3.0))
    body *= 0.62 + 0.9 * mottle / np.abs(mottle).max()
    for _ in range(3):
        spot = centre + rng.uniform(-0.45, 0.45, 3) * radii
        near = sum(
            ((g - s) / r) ** 2 for g, s, r in zip(grid, spot, (2.5, 5.0, 5.0), strict=True)
        )
        body *= 1 - 0.7 * np.exp(-near)
    clipped: F = np.maximum(body, 0)
    return clipped


def _draw_tubes(rng: np.random.Generator, out: F, centre: F, radii: F) -> None:
    """Microtubules: stiff random walks from around the nucleus outwards, flattened in z."""
    n, steps = 130, 150
    outwards = rng.standard_normal((n, 3)) * (0.25, 1, 1)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    at = centre + outwards * radii * rng.uniform(0.7, 1.1, (n, 1))
    turn = rng.standard_normal((n, 3))
    length = rng.integers(steps // 3, steps, n)
    for step in range(steps):
        turn = 0.9 * turn + 0.45 * rng.standard_normal((n, 3))
        outwards += 0.05 * turn * (0.15, 1, 1)
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
        at = at + outwards * (0.35, 0.75, 0.75)
        where = np.rint(at).astype(int)
        inside = ((where >= 0) & (where < out.shape)).all(axis=1) & (step < length)
        np.add.at(out, tuple(where[inside].T), 1.0)


def _blur(volume: F, sigmas: tuple[float, ...]) -> F:
    """Gaussian blur, one axis after the other; outside is zero."""
    for axis, sigma in enumerate(sigmas):
        reach = int(3 * sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weights /= weights.sum()
        n = volume.shape[axis]
        padded = np.pad(volume, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
        blurred = np.zeros_like(volume)
        for i, weight in enumerate(weights):
            blurred += weight * padded.take(range(i, i + n), axis=axis)
        volume = blurred
    return volume
