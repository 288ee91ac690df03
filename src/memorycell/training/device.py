"""Where a model is trained: the CPU, a CUDA GPU, or Apple's (mps)."""

from __future__ import annotations

import torch

from memorycell.errors import UserError, quote

EXPECTED = "expected cpu, cuda, cuda:1, … or mps"


def choose(device: str | torch.device | None) -> torch.device:
    """The device of a name. None: the first CUDA GPU where there is one, else the CPU.

    Raises `UserError` for a device that PyTorch does not have on this machine.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"device={quote(str(device))}: {EXPECTED}") from None
    reason = _missing_reason(chosen)
    if reason is not None:
        raise UserError(f"device={device}: {reason}; leave device out, or use device=cpu")
    return chosen


def _missing_reason(device: torch.device) -> str | None:
    """Why a device cannot be used on this machine, or None."""
    if device.type == "cpu":
        return None if not device.index else "there is one cpu"
    if device.type == "cuda":
        if not torch.backends.cuda.is_built():
            return "this PyTorch was built without CUDA"
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES"
        count = torch.cuda.device_count()
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            return "PyTorch finds no Apple GPU"
        count = 1
    else:
        return EXPECTED
    names = ", ".join(f"{device.type}:{k}" for k in range(count))
    return None if (device.index or 0) < count else f"there is {names}"


def supports_bfloat16(device: torch.device) -> bool:
    """Whether autocast to bfloat16 runs on a device; on a CUDA GPU, also whether its tensor cores
    multiply it (compute capability 8.0).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.amp.is_autocast_available(device.type)
