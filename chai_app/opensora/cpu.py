"""When to compute in the way that suits a CPU best."""

import torch
from torch import Tensor


def takes_cpu_path(tensor: Tensor) -> bool:
    """Whether to compute as is quickest on a CPU: in fp32, without gradients, and uncompiled (a compiler fuses passes
    by itself). The results differ by rounding alone."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )
