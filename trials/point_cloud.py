"""Coloured point clouds of predictions in metres, as binary PLY (http://paulbourke.net/dataformats/ply/).

A pinhole camera with square pixels: a pixel (column, row) at depth z is the point x = (column - cx) z / f, y = (row - cy) z / f.
Axes: x right, y down, z forward, from the left camera.  Depth of a disparity d is f x baseline / (d + doffs).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from search_spaces.errors import SpecError, UnsupportedError
from search_spaces.spec import Spec
from trials.data.decoders import F32, U8, Mask, write_atomically

Size = tuple[int, int]  # height, width
# below this an error of one pixel, which is usual, moves the point by its own distance or more
SMALLEST_DISPARITY_PX = 1.0
_POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
_EXAMPLE = "for example dataset.focal_x=721.5"


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What turns a map into points.  Pixels are those of the images as they are on disk; `baseline_m` is None for one camera,
    `principal_x` and `principal_y` are None for the middle, `farthest_m` is None for no bound."""

    focal_px: float
    baseline_m: float | None
    principal_x: float | None
    principal_y: float | None
    doffs_px: float
    farthest_m: float | None


def camera_of(spec: Spec) -> Camera:
    """The camera that the spec describes; SpecError names what is missing, UnsupportedError for maps without metres."""
    dataset = spec.dataset
    if spec.is_relative:
        raise UnsupportedError(
            "inference.save_ply needs metres, but RelativeDepthAnything gives inverse depth of unknown scale",
            hint="use a metric or a stereo model, or inference.save_npy=true for the map itself",
        )
    needed = {"dataset.focal_x": dataset.focal_x} | ({"dataset.baseline": dataset.baseline} if spec.family == "stereo" else {})
    missing = [key for key, value in needed.items() if not value]
    if missing or dataset.focal_x is None:
        units = {"dataset.focal_x": "focal length in pixels of the images", "dataset.baseline": "distance between the cameras in metres"}
        told = " and ".join(f"{key} ({units[key]})" for key in missing)
        example = _EXAMPLE + (" dataset.baseline=0.54" if spec.family == "stereo" else "")
        raise SpecError(f"inference.save_ply needs {told} of your camera", hint=f"{example}; it stands in the calibration of the data set")
    return Camera(
        focal_px=dataset.focal_x,
        baseline_m=dataset.baseline if spec.family == "stereo" else None,
        principal_x=dataset.principal_x,
        principal_y=dataset.principal_y,
        doffs_px=dataset.doffs,
        farthest_m=spec.inference.ply_max_depth,
    )


def depth_of(values_HW: F32, camera: Camera, *, image_size: Size) -> tuple[F32, Mask]:
    """Depth in metres of each pixel and which of them make points.

    `values_HW` are disparities (stereo) or metres (mono).  No point: what is not finite or not above zero, beyond `farthest_m`, and
    in stereo what lies outside the right view or, without a `farthest_m`, has less than one pixel of disparity.
    """
    known = np.isfinite(values_HW) & (values_HW > 0)
    depth = np.where(known, values_HW, np.float32(1)).astype(np.float32)
    if camera.baseline_m is not None:
        across = values_HW.shape[1] / image_size[1]
        offset = np.where(known, values_HW, 1) + camera.doffs_px * across
        known &= np.arange(values_HW.shape[1]) >= np.where(known, values_HW, 0)
        known &= offset > (0 if camera.farthest_m is not None else SMALLEST_DISPARITY_PX)
        depth = (camera.focal_px * across * camera.baseline_m / np.where(known, offset, 1)).astype(np.float32)
    if camera.farthest_m is not None:
        known &= depth <= camera.farthest_m
    return depth, known


def write_cloud(path: Path, values_HW: F32, image: U8, camera: Camera) -> int:
    """Writes the points of a map in the colours of its image, all or nothing; gives their number.

    The map covers the whole image; where it has another size, the camera and the colours are scaled to it.
    """
    size, image_size = (int(values_HW.shape[0]), int(values_HW.shape[1])), (int(image.shape[0]), int(image.shape[1]))
    depth, known = depth_of(values_HW, camera, image_size=image_size)
    rows, columns = np.nonzero(known)
    z = depth[known]
    colours = image if size == image_size else np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    points: npt.NDArray[np.void] = np.empty(len(z), _POINT)
    down, across = size[0] / image_size[0], size[1] / image_size[1]
    points["xyz"][:, 0] = (columns - _middle(camera.principal_x, size[1], across)) * z / (camera.focal_px * across)
    points["xyz"][:, 1] = (rows - _middle(camera.principal_y, size[0], down)) * z / (camera.focal_px * down)
    points["xyz"][:, 2] = z
    points["rgb"] = colours[known]
    names = "".join(f"property float {axis}\n" for axis in "xyz") + "".join(f"property uchar {each}\n" for each in ("red", "green", "blue"))
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment metres; x right, y down, z forward\nelement vertex {len(z)}\n{names}end_header\n"
    )
    write_atomically(path, header.encode("ascii") + points.tobytes())
    return len(z)


def _middle(given: float | None, length: int, scale: float) -> float:
    """The principal point on the map's grid, where 0 is the centre of the first pixel."""
    return (length - 1) / 2 if given is None else (given + 0.5) * scale - 0.5
