"""How fast it goes beside what the hardware could do."""

from typing import Any

PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Dense bfloat16 with float32 sums, FLOPs a second, from the makers' data sheets; the first name that is part of
the device's counts."""


def peak_flops(device: Any) -> float | None:
    """Of a device; None where it is not known, and of CPUs."""
    if device.type != "cuda":
        return None
    import torch

    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def utilisation(tokens_per_second: float, flops_per_token: float, peak: float, devices: int) -> float:
    """MFU, model FLOPs utilisation (PaLM, arXiv 2204.02311): the share of the peak that the model's own FLOPs
    take, what is computed twice left out."""
    return tokens_per_second * flops_per_token / (peak * devices)
