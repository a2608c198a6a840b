"""What the machine draws while it computes: a counter of joules, read from hardware where that can be, else stated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edgebrush.errors import UserError

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Joules since some moment, and where they come from."""

    source: str
    assumption: str  # empty where the joules are measured

    def joules(self) -> float: ...


class Rapl:
    """The processor packages' own counters (Intel's and AMD's RAPL): the whole package, idle power included."""

    assumption = ""

    def __init__(self, packages: Sequence[Path]):
        self.packages = list(packages)
        self.wraps = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self.last = self._read()
        self.total_uj = 0
        self.source = f"RAPL, {len(self.packages)} processor package(s), idle power included"

    def _read(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self.packages]

    def joules(self) -> float:
        """Read at least once a counter's range, a matter of minutes."""
        now = self._read()
        for before, after, wrap in zip(self.last, now, self.wraps, strict=True):
            self.total_uj += after - before if after >= before else after - before + wrap
        self.last = now
        return self.total_uj * 1e-6


class Nvml:
    """An NVIDIA GPU's own counter (Volta and later): the whole card, idle power included."""

    assumption = ""

    def __init__(self, pynvml: Any, handle: Any):
        self.pynvml, self.handle = pynvml, handle
        self.source = "NVML, the whole GPU, idle power included"

    def joules(self) -> float:
        return self.pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) * 1e-3


class Stated:
    """A power figure given by the user, drawn all the time."""

    def __init__(self, watts: float):
        self.watts = watts
        self.source = "a stated power times measured seconds"
        self.assumption = f"{watts:g} W while computing: stated, not measured"

    def joules(self) -> float:
        return self.watts * time.perf_counter()


def find_meter(device: str, watts: float | None) -> Meter:
    """The stated power where there is one, else the device's counter. Raises ``UserError`` where neither is there."""
    if watts is not None:
        return Stated(watts)
    meter = nvml_meter() if device.startswith("cuda") else rapl_meter()
    if meter is None:
        counter = "NVML (pip install nvidia-ml-py)" if device.startswith("cuda") else f"RAPL ({POWERCAP})"
        raise UserError(
            f"watts: no energy counter can be read here, {counter} is what this device would have; "
            "state what it draws while computing, --watts 15 say"
        )
    return meter


def rapl_meter(folder: Path = POWERCAP) -> Rapl | None:
    """The packages' counters where they can be read: root alone may, by default."""
    packages = sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1)
    try:
        return Rapl(packages) if packages else None
    except OSError:
        return None


def nvml_meter() -> Nvml | None:
    """The first GPU's counter where the driver and nvidia-ml-py are there."""
    try:
        import pynvml

        pynvml.nvmlInit()
        meter = Nvml(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
        meter.joules()
    except Exception:  # not installed, or pynvml.NVMLError, of a module that need not be there
        return None
    return meter
