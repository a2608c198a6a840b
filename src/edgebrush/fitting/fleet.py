"""A fleet of measured servers as the commented text of a scenario: what was measured, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from edgebrush.profiles.catalogue import load_profile
from edgebrush.profiles.schema import Profile
from edgebrush.scenario.capacity import REFERENCE_STEPS, offered_load
from edgebrush.scenario.schema import Scenario

from .nearest_profile import alone_s
from .servers import MeasuredServer
from .stations import Station, assign_profile, reference_of, rounded, usual_device
from .yaml_edit import flow


@dataclass(frozen=True)
class Fleet:
    """Measured stations and assumed UEs, as a scenario file in ``directory``."""

    name: str
    stations: Sequence[Station]
    device: Profile
    device_reference: str
    ues: int
    directory: Path

    @property
    def text(self) -> str:
        """The scenario's YAML with comments. The arrivals make the offered load 1."""
        content = yaml.safe_load(self._text(rate_hz=1.0))
        load = offered_load(Scenario.model_validate({**content, "directory": self.directory}))
        return self._text(rounded(1.0 / load, 2))

    @property
    def assumptions(self) -> list[str]:
        """What nobody measured, one line each; the user edits it in the file."""
        lines = [
            "arrivals: poisson, as many tasks as the stations can serve (offered load 1)",
            "requests: 70% wait for their image, 30% do not; one image per request",
            f"ues: {self.ues} devices like {self.device_reference}",
            "cost: the references of delay and energy, and the weights of the requests",
        ]
        for station in self.stations:
            name = station.server.name
            if not station.given:
                lines.append(f"{name}: its quality and its batches are those of {station.reference}")
            if station.server.load is None:
                lines.append(f"{name}: batch_limit {station.batch_limit}, queue_limit and connection_limit")
            if station.server.check.steps_honoured is False:
                lines.append(f"{name}: it makes the steps that a UE chooses; BUT IT IGNORES THEM")
            if not station.server.link.down_measured:
                lines.append(f"{name}: its downlink is as fast as its uplink (its images are too small to measure it)")
        return lines

    def _text(self, rate_hz: float) -> str:
        parts = (self._head(), self._decision(), self._cost(), self._demand(rate_hz), self._ues(), self._bss())
        return "\n".join(parts)

    def _head(self) -> str:
        names = ", ".join(station.server.name for station in self.stations)
        return f"""\
# Image servers ({names}), measured by `edgebrush init` on {date.today()}. Edit whatever is marked "assumed".
# SI units: seconds, joules, watts, hertz, bits. Omitted fields have their defaults; docs/scenarios.md lists all fields.
# `edgebrush scenarios check FILE` validates this file. `edgebrush fit-scenario` fits it to what agents have recorded.

name: {self.name}
title: Image servers as measured by edgebrush init
horizon_s: 300         # of a simulated episode
"""

    def _decision(self) -> str:
        has_classes = any(station.server.load for station in self.stations)
        note = "service classes, 0 is served first" if has_classes else "none of the servers has service classes"
        return f"""\
# What a UE can choose for each image.
decision:
  step_grid: [2, 4, 6, 8, 10, 15, 20, 30, 50]   # assumed: the denoising steps that your users may get
  classes: {2 if has_classes else 1}           # {note}
  neighbours: {len(self.stations)}        # every UE considers all stations

broadcast_interval_s: 1.0   # seconds between two queries of the stations' loads
"""

    def _cost(self) -> str:
        slowest = max(self.stations, key=lambda each: alone_s(each.profile, REFERENCE_STEPS) / each.speed)
        delay_s = alone_s(slowest.profile, REFERENCE_STEPS) / slowest.speed
        energy = self.device.energy
        joules = energy.fixed_j + REFERENCE_STEPS * (energy.round_intercept_j + energy.round_slope_j)
        return f"""\
# Cost of a task = delay_weight D/delay_ref_s + energy_weight E/energy_ref_j + quality_weight (1 - Q) + penalties.
cost:
  delay_ref_s: {rounded(3 * delay_s, 1):g}     # assumed: 3 images of {REFERENCE_STEPS} steps at {slowest.server.name}
  energy_ref_j: {rounded(joules, 1):g}    # assumed: an image of {REFERENCE_STEPS} steps on a UE
"""

    def _demand(self, rate_hz: float) -> str:
        bits_in = 8 * max(station.server.request_bytes for station in self.stations)
        bits_out = 8 * max(station.server.reply_bytes for station in self.stations)
        return f"""\
# Assumed: as many tasks as the stations can serve at {REFERENCE_STEPS} steps. Other kinds are bursty and trace.
arrivals:
  kind: poisson
  rate_hz: {rate_hz:g}        # requests per second and UE

# Assumed: who waits for an image, and what matters to them. The bits are those of the measured requests and images.
requests:
  - {{name: waiting, share: 0.7, delay_weight: 1.0, energy_weight: 0.2, quality_weight: 1.0,
     bits_in: {bits_in:.3e}, bits_out: {bits_out:.3e}}}
  - {{name: background, share: 0.3, delay_weight: 0.1, energy_weight: 0.4, quality_weight: 1.0,
     bits_in: {bits_in:.3e}, bits_out: {bits_out:.3e}}}
"""

    def _ues(self) -> str:
        return f"""\
# Assumed: the users' devices, and the model that they run. `edgebrush profiles` lists profiles.
ues:
  - {{name: device, count: {self.ues}, profile: {flow(self.device_reference)}}}
"""

    def _bss(self) -> str:
        return "bss:\n" + "\n".join(self._bs(station) for station in self.stations)

    def _bs(self, station: Station) -> str:
        server, link = station.server, station.server.link
        times = ", ".join(f"{seconds:.3g} s for {steps} steps" for steps, seconds in server.service_s.items())
        stated = "as the server states" if server.load else "assumed"
        ignored = "THE SERVER IGNORES STEPS; " if server.check.steps_honoured is False else ""
        speed_note = f"measured: {ignored}{times}"
        lines = [
            f"  - name: {server.name}",
            f"    profile: {flow(station.reference)}   # {self._profile_note(station)}",
            f"    speed: {station.speed:g}   # {speed_note}",
            f"    batch_limit: {station.batch_limit}   # {stated}",
        ]
        if server.load:
            lines.append(f"    queue_limit: {server.load.queue_limit}")
            lines.append(f"    connection_limit: {server.load.connection_limit}")
        down_note = "" if link.down_measured else "; down assumed as up"
        rates = (
            f"up_bps: {link.up_bps:.3e}, down_bps: {link.down_bps:.3e}, round_trip_s: {rounded(link.round_trip_s):g}"
        )
        lines.append(f"    link: {{{rates}}}   # measured{down_note}")
        lines.append("    endpoint:")
        endpoint = server.endpoint.model_dump(exclude_defaults=True)
        lines += ["      " + line for line in yaml.safe_dump(endpoint, sort_keys=False).splitlines()]
        return "\n".join(lines) + "\n"

    def _profile_note(self, station: Station) -> str:
        server = station.server
        model = f"{server.model!r}, " if server.model else ""
        if station.given:
            return f"given; the server has {model}{server.image_px} px images"
        return f"assumed: nearest to {model}{server.image_px} px; measure yours by `edgebrush profile`"


def describe_fleet(
    servers: Sequence[MeasuredServer],
    name: str,
    directory: Path,
    profiles: Mapping[str, str],
    device: str | None,
    ues: int,
) -> Fleet:
    """The fleet of a scenario file in ``directory``. ``profiles`` are given by station. Raises ``UserError``."""
    stations = [assign_profile(server, profiles.get(server.name), directory) for server in servers]
    light = device or usual_device(stations)
    return Fleet(name, stations, load_profile(light), reference_of(light, directory), ues, directory)
