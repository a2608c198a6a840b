"""An energy meter through zeus (0.16), for counters of which this package has no reader: AMD, Apple, NVIDIA Jetson."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

APPLE_PARTS = ("cpu_total_mj", "dram_mj", "gpu_mj", "gpu_sram_mj", "ane_mj")  # they do not overlap


class ZeusMeter:
    """A counter that zeus reads, in millijoules."""

    assumption = ""

    def __init__(self, source: str, read_mj: Callable[[], float]):
        self.source, self.read_mj = source, read_mj

    def joules(self) -> float:
        """Return the joules since an arbitrary moment."""
        return self.read_mj() * 1e-3


def find_zeus_meter(device: str) -> ZeusMeter | None:
    """Return the counter of the GPU, or of the chip that holds the CPU, if zeus is installed and finds one."""
    try:
        from zeus.device import get_gpus, get_soc

        if device.startswith("cuda"):  # PyTorch's name for AMD's GPUs, too
            gpus = get_gpus()
            source = f"zeus, {gpus.get_name(0)}, the whole GPU, idle power included"
            meter = ZeusMeter(source, lambda: gpus.get_total_energy_consumption(0))
        else:
            soc = get_soc()
            source = f"zeus, {type(soc).__name__}, the whole chip, idle power included"
            meter = ZeusMeter(source, lambda: chip_mj(soc.get_total_energy_consumption()))
        meter.joules()
    except Exception:  # ImportError, or zeus' errors, which can only be named if zeus is installed
        return None
    return meter


def chip_mj(measurement: Any) -> float:
    """Return the millijoules of a whole chip: Jetson's total, or the sum of Apple's parts. Raises ``ValueError``."""
    total = getattr(measurement, "total_energy_mj", None)
    if total is not None:
        return float(total)
    parts = [getattr(measurement, part, None) for part in APPLE_PARTS]
    measured = [float(part) for part in parts if part is not None]
    if not measured:
        raise ValueError("zeus measures no part of this chip")
    return sum(measured)
