"""A network in PyTorch: as it is, compiled, or with bfloat16 arithmetic.

torch.compile: https://docs.pytorch.org/docs/stable/generated/torch.compile.html (BSD-3-Clause).
"""

from __future__ import annotations

import copy
import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from deploy.graph_file import as_map, check_count
from search_spaces.errors import UnsupportedError

# what torch.compile calls on each kind of device: the variable that names it, else the first of these that is there
COMPILERS = {"cpu": ("CXX", "g++", "clang++"), "cuda": ("CC", "gcc", "clang")}


class TorchPredictor:
    """A network in evaluation mode on one device, in float32 without TF32.

    Takes any legal image size.  The network is moved to `device` (default: a CUDA device if there is one) and stays there;
    `iterations` are a stereo network's refinements (default: its own).  `runtime` is `auto`, `compiled` (a minute or more for each new
    image size), `bf16` (autocast: the network's own float32 parts stay), or `cpu` or `cuda` in the place of `device`.
    """

    fixed_size: tuple[int, int] | None = None

    def __init__(
        self,
        network: nn.Module,
        family: str,
        *,
        iterations: int | None = None,
        device: str | torch.device | None = None,
        runtime: str = "auto",
    ) -> None:
        if runtime in {"cpu", "cuda"}:
            device = runtime
        self.device = torch.device(device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu"))
        _check_device(self.device, compiled=runtime == "compiled")
        self.family = family
        self.iterations = iterations
        self.name = f"torch {runtime}" if runtime in {"compiled", "bf16"} else "torch"
        self.network = network.to(self.device).eval()
        self._bf16 = runtime == "bf16"
        self._forward: Callable[..., Tensor] = _compiled(self.network) if runtime == "compiled" else self.network

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """The map of each image (set), B x 1 x H x W float32 on the CPU; DataError for a wrong number of images."""
        check_count(images, self.family, place=self.name)
        placed = [image.to(self.device) for image in images]
        settings = {"iterations": self.iterations} if self.family == "stereo" else {}
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False), self._arithmetic():
            output: Tensor = self._forward(*placed, **settings)
        return as_map(output.float().cpu())

    def _arithmetic(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()


def _compiled(network: nn.Module) -> Callable[..., Tensor]:
    """`network` compiled, itself left as it is; without the compiler's talk about its own internals."""
    forward = copy.copy(network)  # shares the weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forward.compile()

    def quietly(*images: Tensor, **settings: int | None) -> Tensor:
        with warnings.catch_warnings():  # it compiles at the first call and at each new size
            warnings.simplefilter("ignore")
            output: Tensor = forward(*images, **settings)
            return output

    return quietly


def _check_device(device: torch.device, *, compiled: bool) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError("runtime=cuda needs a GPU, but torch sees none", hint="leave runtime out, or choose cpu")
    if compiled and not has_compiler(device.type):
        variable, *names = COMPILERS[device.type]
        raise UnsupportedError(
            f"runtime=compiled needs {' or '.join(names)}, but none was found", hint=f"install one, or set {variable}, or leave runtime out"
        )
    # what is compiled becomes modules of Python; Debian and Ubuntu keep the headers in a package of their own
    if compiled and not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise UnsupportedError(
            f"runtime=compiled needs Python.h, which is not in {sysconfig.get_path('include')}",
            hint="install the headers of this Python (on Debian/Ubuntu: apt-get install python3-dev), or leave runtime out",
        )


def has_compiler(device_type: str) -> bool:
    """Whether there is what torch.compile needs on the host for a kind of device."""
    variable, *names = COMPILERS[device_type]
    named = os.environ.get(variable)
    return any(map(shutil.which, [named] if named else names))
