"""Sample scenes with exact ground truth, so that a new user needs no data: `write_samples`.

A scene is a slanted back wall, a floor, tilted boards, spheres and thin poles before a rectified pinhole pair.  Every pixel is a ray;
its nearest hit gives depth z in closed form and disparity = focal x baseline / z, exact to float32.  Colour is a function of the point
on the surface, so both views see the same; its detail is a few pixels wide, and four rays a pixel keep it free of aliasing.
Occlusion is a ray too: a left pixel is occluded when something nearer covers its point in the right view, or when it lies outside it.

Units: metres and pixels.  The left camera is the origin, x right, y down, z forward; the right one sits `baseline` further right.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search_spaces.errors import DataError
from trials.data.decoders import write_atomically, write_pfm, write_png

F64 = npt.NDArray[np.float64]

NEAREST_M = 1.0
_SETTINGS = "sample.json"
_OCCLUDED, _VISIBLE = 128, 255
_SUBPIXELS = ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A rectified pair: focal length and centre in pixels, baseline in metres."""

    height: int
    width: int
    focal_px: float
    baseline_m: float

    def rays(self, dx: float, dy: float) -> tuple[F64, F64]:
        """Slopes x/z and y/z of the ray through each pixel, moved by (dx, dy) pixels; both (H, W)."""
        columns = (np.arange(self.width) + dx - (self.width - 1) / 2) / self.focal_px
        rows = (np.arange(self.height) + dy - (self.height - 1) / 2) / self.focal_px
        across, down = np.meshgrid(columns, rows)
        return across, down


@dataclass(frozen=True, kw_only=True)
class Board:
    """A plane z = depth + slope_x (x - x0) + slope_y (y - y0), cut to |x - x0| <= half_width and |y - y0| <= half_height."""

    depth: float
    slope_x: float
    slope_y: float
    x0: float = 0.0
    y0: float = 0.0
    half_width: float = float("inf")
    half_height: float = float("inf")

    def hit(self, eye_x: float, across: F64, down: F64) -> F64:
        """z of the hit, inf where the ray misses."""
        start = self.depth + self.slope_x * (eye_x - self.x0) - self.slope_y * self.y0
        bend = 1 - self.slope_x * across - self.slope_y * down
        z = start / np.where(np.abs(bend) < 1e-9, np.inf, bend)
        inside = (z > 0) & (np.abs(eye_x + z * across - self.x0) <= self.half_width) & (np.abs(z * down - self.y0) <= self.half_height)
        return np.where(inside, z, np.inf)


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The level plane y = height."""

    height: float

    def hit(self, eye_x: float, across: F64, down: F64) -> F64:
        """z of the hit, inf where the ray does not go down."""
        del eye_x, across
        return np.where(down > 1e-6, self.height / np.where(down > 1e-6, down, 1.0), np.inf)


@dataclass(frozen=True, kw_only=True)
class Sphere:
    """A ball."""

    x0: float
    y0: float
    depth: float
    radius: float

    def hit(self, eye_x: float, across: F64, down: F64) -> F64:
        """z of the nearer hit, inf where the ray misses."""
        x = self.x0 - eye_x
        a = 1 + across**2 + down**2
        half_b = self.depth + across * x + down * self.y0
        root = half_b**2 - a * (self.depth**2 + x**2 + self.y0**2 - self.radius**2)
        return np.where(root >= 0, (half_b - np.sqrt(np.maximum(root, 0))) / a, np.inf)


Shape = Board | Floor | Sphere


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Colour at a point: a base and waves along random directions, some of them hardened to stripes.

    `waves` (n, 3) in radians per metre, `phases` (n,), `weights` (n, 3) per colour, all in 0 to 1 after the sum.
    """

    base: F64
    waves: F64
    phases: F64
    weights: F64

    def colour(self, points: F64) -> F64:
        """(n, 3) in 0 to 1 for points (n, 3)."""
        swing = np.sin(points @ self.waves.T + self.phases)
        swing[:, ::3] = np.tanh(3 * swing[:, ::3])  # every third wave has edges
        return np.clip(self.base + swing @ self.weights, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Shapes with their textures."""

    shapes: tuple[Shape, ...]
    textures: tuple[Texture, ...]

    def cast(self, eye_x: float, across: F64, down: F64) -> tuple[F64, npt.NDArray[np.intp]]:
        """z of the nearest hit and which shape it is, both of the rays' shape."""
        z = np.stack([shape.hit(eye_x, across, down) for shape in self.shapes])
        z[z < NEAREST_M / 2] = np.inf
        nearest = z.argmin(axis=0)
        return np.take_along_axis(z, nearest[None], axis=0)[0], nearest

    def image(self, camera: Camera, eye_x: float) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8: the mean of four rays a pixel."""
        total = np.zeros((camera.height * camera.width, 3))
        for dx, dy in _SUBPIXELS:
            across, down = camera.rays(dx, dy)
            z, shape = self.cast(eye_x, across, down)
            points = np.stack([eye_x + z * across, z * down, z], axis=-1).reshape(-1, 3)
            for number, texture in enumerate(self.textures):
                of_shape = (shape == number).reshape(-1)
                if of_shape.any():
                    total[of_shape] += texture.colour(points[of_shape])
        return np.rint(total * (255 / len(_SUBPIXELS))).astype(np.uint8).reshape(camera.height, camera.width, 3)


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """One pair: images (H, W, 3) uint8, depth (H, W) metres, disparity (H, W) pixels, visible (H, W): seen by both views."""

    left: npt.NDArray[np.uint8]
    right: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    disparity: npt.NDArray[np.float32]
    visible: npt.NDArray[np.bool_]


def render(scene: Scene, camera: Camera) -> Rendering:
    """The pair and its exact ground truth at pixel centres of the left view."""
    across, down = camera.rays(0.0, 0.0)
    z, _ = scene.cast(0.0, across, down)
    disparity = camera.focal_px * camera.baseline_m / z
    # the ray from the right camera through the same point: blocked if it meets something nearer
    z_right, _ = scene.cast(camera.baseline_m, across - camera.baseline_m / z, down)
    column = np.arange(camera.width) - disparity
    visible = (z_right > z * (1 - 1e-6)) & (column >= 0)
    return Rendering(
        left=scene.image(camera, 0.0),
        right=scene.image(camera, camera.baseline_m),
        depth=z.astype(np.float32),
        disparity=disparity.astype(np.float32),
        visible=visible,
    )


def make_camera(*, height: int, width: int, max_disparity: int) -> Camera:
    """A pair with a 53 degree wide view whose nearest possible point has 90 % of max_disparity."""
    focal = float(width)
    return Camera(height=height, width=width, focal_px=focal, baseline_m=0.9 * max_disparity * NEAREST_M / focal)


def make_scene(rng: np.random.Generator, camera: Camera) -> Scene:
    """A random scene between 1 and 9 metres: wall, floor, 2 to 4 boards, 2 to 4 spheres, 2 to 4 poles."""
    view_x, view_y = 0.5 * camera.width / camera.focal_px, 0.5 * camera.height / camera.focal_px
    shapes: list[Shape] = [
        Board(depth=rng.uniform(5.0, 6.5), slope_x=rng.uniform(-0.3, 0.3), slope_y=rng.uniform(-0.2, 0.2)),
        Floor(height=rng.uniform(0.7, 1.1) * 2.5 * view_y),
    ]
    for kind in ("board", "sphere", "pole"):
        for _ in range(int(rng.integers(2, 5))):
            depth = 1 / rng.uniform(1 / 4.5, 1 / 1.5)  # even in disparity
            x0, y0 = depth * view_x * rng.uniform(-0.9, 0.9), depth * view_y * rng.uniform(-0.9, 0.9)
            shapes.append(_object(kind, rng, depth=depth, x0=x0, y0=y0))
    return Scene(shapes=tuple(shapes), textures=tuple(_texture(rng, camera, shape) for shape in shapes))


def _object(kind: str, rng: np.random.Generator, *, depth: float, x0: float, y0: float) -> Shape:
    if kind == "sphere":
        return Sphere(x0=x0, y0=y0, depth=depth, radius=depth * rng.uniform(0.05, 0.15))
    if kind == "board":
        half_width, half_height = depth * rng.uniform(0.06, 0.2), depth * rng.uniform(0.05, 0.15)
        slopes = {"slope_x": rng.uniform(-0.6, 0.6), "slope_y": rng.uniform(-0.4, 0.4)}
        return Board(depth=depth, x0=x0, y0=y0, half_width=half_width, half_height=half_height, **slopes)
    thickness = depth * rng.uniform(0.005, 0.015)
    upright = rng.random() < 0.7
    half_width, half_height = (thickness, depth) if upright else (depth * 0.25, thickness)
    return Board(depth=depth, slope_x=0.0, slope_y=rng.uniform(-0.1, 0.1), x0=x0, y0=y0, half_width=half_width, half_height=half_height)


def _texture(rng: np.random.Generator, camera: Camera, shape: Shape) -> Texture:
    depth = 2.5 if isinstance(shape, Floor) else shape.depth
    count = 9
    pixel = depth / camera.focal_px
    period = pixel * np.exp(rng.uniform(np.log(5.0), np.log(50.0), size=count))
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    strength = rng.uniform(0.3, 1.0, size=(count, 1)) * (0.6 + 0.4 * rng.random((count, 3)))
    return Texture(
        base=rng.uniform(0.3, 0.7, size=3),
        waves=directions * (2 * np.pi / period)[:, None],
        phases=rng.uniform(0, 2 * np.pi, size=count),
        weights=0.45 * strength / strength.sum(axis=0) * 1.6,
    )


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """What `write_samples` wrote.  `counts` are scenes per split; lists are `<kind>_<split>.txt` in the folder, kind one of stereo
    (left right disparity), nocc (and a mask, for Middlebury), mono (left depth in metres), relative (left disparity)."""

    folder: Path
    counts: dict[str, int]
    camera: Camera
    written: bool

    def list_file(self, kind: str, split: str) -> Path:
        """The annotation file of a kind (stereo, nocc, mono, relative) and split (train, val, test)."""
        return self.folder / f"{kind}_{split}.txt"


_LISTS = {
    "stereo": ("left.png", "right.png", "disparity.pfm"),
    "nocc": ("left.png", "right.png", "disparity.pfm", "mask.png"),
    "mono": ("left.png", "depth.pfm"),
    "relative": ("left.png", "disparity.pfm"),
}


def write_samples(folder: Path, *, scenes: int, seed: int = 0, height: int = 128, width: int = 192, max_disparity: int = 64) -> SampleSet:
    """Write `scenes` scenes and their annotation files (paths relative to `folder`); every disparity is below max_disparity.

    The same arguments give the same files.  A folder that already holds exactly this set is left as it is (`written` False); one that
    holds anything else raises DataError, as do numbers that cannot be.  At least one scene each goes to val and test, 20 % to val, 10 %
    to test.
    """
    _check(scenes=scenes, height=height, width=width, max_disparity=max_disparity)
    camera = make_camera(height=height, width=width, max_disparity=max_disparity)
    names = [f"scene_{number:04d}" for number in range(scenes)]
    val, test = max(1, round(0.2 * scenes)), max(1, round(0.1 * scenes))
    splits = {"train": names[: scenes - val - test], "val": names[scenes - val - test : scenes - test], "test": names[scenes - test :]}
    settings = {"scenes": scenes, "seed": seed, "max_disparity": max_disparity, "camera": asdict(camera), "format": 1}
    done = SampleSet(folder=folder, counts={split: len(part) for split, part in splits.items()}, camera=camera, written=False)
    if _already_there(folder, settings):
        return done
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed % 2**32, number])
        _write_scene(folder / name, render(make_scene(rng, camera), camera))
    for kind, files in _LISTS.items():
        for split, part in splits.items():
            lines = [" ".join(f"{name}/{file}" for file in files) for name in part]
            write_atomically(done.list_file(kind, split), ("\n".join(lines) + "\n").encode())
    # last, so that an interrupted set is not taken for a whole one
    write_atomically(folder / _SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())
    return SampleSet(folder=folder, counts=done.counts, camera=camera, written=True)


def _check(*, scenes: int, height: int, width: int, max_disparity: int) -> None:
    if scenes < 3:
        raise DataError(f"a sample set needs at least 3 scenes (train, val, test), but got {scenes}", hint="--scenes 12 is a good start")
    if height < 32 or width < 32:
        raise DataError(f"sample images must be at least 32x32 pixels, but got {width}x{height} (width x height)", hint="make them larger")
    if not 8 <= max_disparity <= width:
        message = f"8 <= max_disparity <= width must hold for sample scenes, but got max_disparity={max_disparity}, width={width}"
        raise DataError(message, hint="a third of the width is usual")


def _already_there(folder: Path, settings: dict[str, object]) -> bool:
    """Whether the folder holds this very set; DataError if it holds something else."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder", hint="choose another folder")
    if not folder.exists() or not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == settings:
        return True
    what = "another sample set" if found is not None else "files that are no complete sample set"
    raise DataError(f"{folder} already holds {what}; nothing was written", hint="choose an empty or new folder")


def _write_scene(folder: Path, rendering: Rendering) -> None:
    write_png(folder / "left.png", rendering.left)
    write_png(folder / "right.png", rendering.right)
    write_pfm(folder / "disparity.pfm", rendering.disparity)
    write_pfm(folder / "depth.pfm", rendering.depth)
    mask = np.where(rendering.visible, _VISIBLE, _OCCLUDED).astype(np.uint8)
    write_png(folder / "mask.png", mask)
