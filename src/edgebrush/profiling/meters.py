"""Energy meters: the joules that the machine uses, from a hardware counter or from a stated power."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edgebrush.errors import UserError

from .zeus_meter import find_zeus_meter

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of joules, and the source of its values."""

    source: str
    assumption: str  # empty if the joules are measured

    def joules(self) -> float:
        """Return the joules since an arbitrary moment."""


class RaplMeter:
    """Intel's and AMD's RAPL counters of the processor packages: whole packages, idle power included."""

    assumption = ""

    def __init__(self, packages: Sequence[Path]):
        """``packages`` are folders under ``POWERCAP``."""
        self.packages = list(packages)
        self.ranges_uj = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self.last_uj = self._read()
        self.total_uj = 0
        self.source = f"RAPL, {len(self.packages)} processor package(s), idle power included"

    def _read(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self.packages]

    def joules(self) -> float:
        """Return the joules since the start. Call it often enough that no counter wraps twice: every few minutes."""
        now = self._read()
        for before, after, range_uj in zip(self.last_uj, now, self.ranges_uj, strict=True):
            self.total_uj += after - before if after >= before else after - before + range_uj
        self.last_uj = now
        return self.total_uj * 1e-6


class NvmlMeter:
    """The counter of an NVIDIA GPU (Volta and later): the whole card, idle power included.

    ``handle`` is NVML's handle of the card.
    """

    assumption = ""

    def __init__(self, pynvml: Any, handle: Any):
        self.pynvml, self.handle = pynvml, handle
        self.source = "NVML, the whole GPU, idle power included"

    def joules(self) -> float:
        """Return the joules since the driver was loaded."""
        millijoules: int = self.pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)
        return millijoules * 1e-3


class StatedPower:
    """A constant power that the user states."""

    def __init__(self, watts: float):
        self.watts = watts
        self.source = "a stated power times measured seconds"
        self.assumption = f"{watts:g} W while computing: stated, not measured"

    def joules(self) -> float:
        """Return the power times the time."""
        return self.watts * time.perf_counter()


def find_meter(device: str, watts: float | None) -> Meter:
    """Return the stated power if there is one, else the device's counter: NVML's, RAPL's, or one that zeus reads.

    Raises ``UserError`` if there is none.
    """
    if watts is not None:
        return StatedPower(watts)
    meter: Meter | None = find_nvml_meter(device) if device.startswith("cuda") else find_rapl_meter()
    meter = meter or find_zeus_meter(device)
    if meter is None:
        counter = "NVML (pip install nvidia-ml-py)" if device.startswith("cuda") else f"RAPL ({POWERCAP})"
        raise UserError(
            f"watts: not given, and the energy counter of this device, {counter}, cannot be read; "
            "install zeus for AMD, Apple and Jetson, or state the power while computing, for example --watts 15"
        )
    return meter


def find_rapl_meter(folder: Path = POWERCAP) -> RaplMeter | None:
    """Return the packages' counters, if they can be read; by default only root can."""
    packages = sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1)
    try:
        return RaplMeter(packages) if packages else None
    except OSError:
        return None


def find_nvml_meter(device: str) -> NvmlMeter | None:
    """Return the counter of PyTorch's device, if the driver and nvidia-ml-py are installed.

    PyTorch numbers the GPUs that CUDA_VISIBLE_DEVICES leaves, NVML all of them, so the card is found by its UUID.
    """
    try:
        import pynvml
        import torch

        uuid = torch.cuda.get_device_properties(torch.device(device)).uuid
        pynvml.nvmlInit()
        meter = NvmlMeter(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        meter.joules()
    except Exception:  # ImportError, or pynvml.NVMLError, which can only be named if pynvml is installed
        return None
    return meter
