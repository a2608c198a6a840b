"""The scenario: the validated content of its YAML file.

All values are in SI units (seconds, joules, watts, hertz, bits, metres). ``docs/scenarios.md`` explains every field,
``docs/simulator.md`` what it does. Sources of physical values are in the field descriptions, presets and profiles.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgebrush.profiles.schema import NonNegative, Part, Positive

MAX_CLASSES = 4  # service classes that the simulator's records hold
MAX_STEPS = 32  # entries of a step grid
MAX_UES, MAX_BSS = 20_000, 1_000  # so that a typing error cannot fill the memory
MAX_TASKS = 10_000_000  # arrivals in an episode
MIN_INTERVAL_S = 1e-3  # of recurring events, so that an episode stays finite

EndpointKind = Literal["edgebrush", "vllm-omni", "sglang", "sd.cpp", "localai", "openai"]
REPLACED_BY_KIND = ("steps_field", "load", "running_metric", "waiting_metric")  # of an endpoint, until 0.1

Share = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Decibels = Annotated[float, Field(ge=-300, le=300)]
LossDb = Annotated[float, Field(ge=0, le=300)]
Recurring = Annotated[float, Field(ge=MIN_INTERVAL_S, allow_inf_nan=False)]


class Decision(Part):
    """What a UE can choose; each of the three decisions can be removed."""

    step_grid: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        default=(2, 4, 6, 8, 10, 15, 20, 30, 50),
        description="allowed denoising steps; one entry fixes them",
    )
    classes: Annotated[int, Field(ge=1, le=MAX_CLASSES)] = Field(
        default=2, description="service classes, 0 is served first; 1 removes the choice"
    )
    local: bool = Field(default=True, description="whether a UE may generate on its own device")
    neighbours: Annotated[int, Field(ge=0)] = Field(
        default=6, description="a UE considers this many BSs, those with the best channel; 1 = the nearest only"
    )
    interval_s: NonNegative = Field(default=0.0, description="0: decide at arrival; otherwise the length of a slot")

    @model_validator(mode="after")
    def _ordered(self) -> Decision:
        if not 1 <= len(self.step_grid) <= MAX_STEPS:
            raise ValueError(f"step_grid needs 1 to {MAX_STEPS} entries")
        if any(b <= a for a, b in zip(self.step_grid, self.step_grid[1:], strict=False)):
            raise ValueError(f"step_grid {list(self.step_grid)} must rise strictly; sort it and drop repeats")
        if 0 < self.interval_s < MIN_INTERVAL_S:
            raise ValueError(f"interval_s = {self.interval_s:g} is too short; give 0 or at least {MIN_INTERVAL_S:g}")
        if not self.local and self.neighbours == 0:
            raise ValueError("local is false and neighbours is 0, so there is no place for a task")
        return self


class Cost(Part):
    """The operator's weights of the task cost; a request kind has the requester's."""

    delay_ref_s: Positive = 5.0
    energy_ref_j: Positive = 10.0
    bs_energy_weight: NonNegative = Field(
        default=0.0, description="omega: weight of the BSs' joules relative to the UEs'"
    )
    missed: Positive = Field(default=1.0, description="added when a task misses its deadline")
    lost: Positive = Field(default=3.0, description="added when no queue has room for a task")


class Radio(Part):
    """The radio channel between UEs and BSs."""

    path_loss: Literal["umi-street-canyon", "log-distance"] = Field(
        default="umi-street-canyon",
        description="3GPP TR 38.901, table 7.4.1-1; or intercept_db + exponent_db lg d",
    )
    carrier_ghz: Annotated[float, Field(ge=0.5, le=100)] = Field(
        default=3.5, description="umi-street-canyon only; band n78 (3GPP TS 38.101-1)"
    )
    intercept_db: Decibels = Field(default=41.0, description="log-distance only: loss at 1 m")
    exponent_db: Positive = Field(default=28.0, description="log-distance only: dB per decade of distance")
    wall_loss_db: LossDb = 0.0
    shadowing_db: LossDb | None = Field(default=None, description="None: the path-loss model's own")
    shadowing_time_s: Positive = 20.0
    fading: Literal["rayleigh", "none"] = "rayleigh"
    coherence_s: Recurring = 1.0
    noise_dbm_per_hz: Decibels = Field(default=-174.0, description="thermal noise at 290 K")
    noise_figure_db: LossDb = Field(default=7.0, description="of a UE's receiver (ITU-R M.2412)")
    interference: bool = Field(default=False, description="transmissions in other cells raise the noise")
    downlink: bool = Field(default=True, description="false: results arrive instantly")


class Mobility(Part):
    """Random waypoint; at speed 0, UEs keep their initial positions."""

    speed_mps: NonNegative = 0.0
    pause_s: NonNegative = 10.0


class PoissonArrivals(Part):
    """A Poisson process of requests at each UE."""

    kind: Literal["poisson"] = "poisson"
    rate_hz: Positive = Field(description="requests per second and UE")


class BurstyArrivals(Part):
    """Two-state Markov-modulated Poisson: the rate is `rate_hz * calm` or `rate_hz * burst`."""

    kind: Literal["bursty"] = "bursty"
    rate_hz: Positive = Field(description="requests per second and UE where the factor is 1")
    calm: NonNegative = 0.2
    burst: Positive = 1.8
    calm_s: Recurring = Field(default=20.0, description="mean duration of the calm state")
    burst_s: Recurring = Field(default=20.0, description="mean duration of the burst state")
    shared: bool = Field(default=True, description="one state for all UEs, else one per UE")

    @model_validator(mode="after")
    def _ordered(self) -> BurstyArrivals:
        if self.calm > self.burst:
            raise ValueError(f"calm = {self.calm:g} is above burst = {self.burst:g}; swap them")
        return self


class TraceArrivals(Part):
    """Requests replayed from a log."""

    kind: Literal["trace"] = "trace"
    file: Path = Field(description="a CSV in the GenTD26 columns, relative to the scenario file")
    rate_hz: Positive = Field(description="tasks per second and UE; times are scaled to it")


Arrivals = Annotated[PoissonArrivals | BurstyArrivals | TraceArrivals, Field(discriminator="kind")]


class RequestKind(Part):
    """A kind of request: the requester's weights of the cost, and the sizes of prompt and result."""

    name: str
    share: Share
    delay_weight: NonNegative
    energy_weight: NonNegative
    quality_weight: NonNegative
    bits_in: Positive
    bits_out: Positive
    deadline_s: Positive | None = None


class Content(Part):
    """A content class. ``difficulty`` stretches the quality curve: the same quality needs that many times the steps."""

    name: str
    share: Share
    difficulty: Annotated[float, Field(ge=0.1, le=10)]


class Ue(Part):
    """A class of identical UEs (phones)."""

    name: str
    count: Annotated[int, Field(ge=1, le=MAX_UES)]
    profile: str = Field(description="a light model's, by name or as a .json file next to the scenario")
    speed: Positive = Field(default=1.0, description="of the device, relative to the profile's hardware")
    rate_factor: Positive = Field(default=1.0, description="request rate, relative to the arrivals' rate")
    queue_limit: Annotated[int, Field(ge=0, le=1000)] = 8
    radiated_w: Positive = Field(default=0.2, description="23 dBm, power class 3 (3GPP TS 38.101-1)")
    transmit_w: NonNegative = Field(default=2.3, description="power while it transmits (QECO, mec_uara)")
    receive_w: NonNegative = Field(default=1.0, description="power while it receives (assumption)")
    standby_w: NonNegative = Field(default=0.1, description="power while it waits for a BS (QECO, mec_uara)")
    battery_j: Positive = Field(default=50_000.0, description="13.9 Wh; phones have 12.7 to 15.1 Wh")
    battery_level: tuple[Share, Share] = Field(default=(0.2, 1.0), description="at the start, uniform in this range")
    battery_care: NonNegative = Field(
        default=0.0, description="energy weight is multiplied by 1 + battery_care * (1 - level)"
    )

    @model_validator(mode="after")
    def _range(self) -> Ue:
        if self.battery_level[0] > self.battery_level[1]:
            raise ValueError(f"battery_level {list(self.battery_level)} must be [lowest, highest]")
        return self


class Endpoint(Part):
    """An existing server with OpenAI's images API. Its cost and quality are still those of the BS's profile."""

    base_url: str = Field(description="the address above images/generations, for example http://host:8000/v1")
    kind: EndpointKind = Field(
        default="edgebrush",
        description="the server's program: how it takes steps and seeds, and reports its load; openai: any other one",
    )
    api_key_env: str | None = Field(default=None, description="the environment variable that holds its API key")
    model: str | None = Field(default=None, description="sent as `model` if given")
    metrics_url: str | None = Field(default=None, description="vllm-omni only; None: /metrics on the same host")

    @model_validator(mode="before")
    @classmethod
    def _replaced(cls, fields: Any) -> Any:
        """Fields of 0.1 get an error that names what replaced them."""
        found = [name for name in REPLACED_BY_KIND if isinstance(fields, dict) and name in fields]
        if found:
            kinds = ", ".join(get_args(EndpointKind))
            raise ValueError(f"{', '.join(found)}: replaced by `kind`; remove it and give kind: one of {kinds}")
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> Endpoint:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url = {self.base_url!r} is not an address; give http://HOST:PORT/v1")
        if self.metrics_url is not None and self.kind != "vllm-omni":
            raise ValueError(f"metrics_url is not read for kind: {self.kind}, only for vllm-omni; remove it")
        return self


class Link(Part):
    """A link with measured rates instead of the radio channel: wired, WLAN, or whatever carries the requests."""

    up_bps: Positive = Field(description="from the UEs to the BS, shared equally by the transfers in progress")
    down_bps: Positive = Field(description="from the BS to the UEs, shared likewise")
    round_trip_s: NonNegative = Field(default=0.0, description="of a small packet; half of it delays each transfer")


class Bs(Part):
    """A class of identical base stations; positions default to an even grid over the area."""

    name: str
    count: Annotated[int, Field(ge=1, le=MAX_BSS)] = 1
    profile: str = Field(description="a heavy model's, by name or as a .json file next to the scenario")
    speed: Positive = Field(default=1.0, description="of the server, relative to the profile's hardware")
    batch_limit: Annotated[int, Field(ge=1, le=256)] = 4
    queue_limit: Annotated[int, Field(ge=0, le=10_000)] = 32
    connection_limit: Annotated[int, Field(ge=1, le=20_000)] = 64
    bandwidth_hz: Positive = Field(default=10e6, description="in each direction (QECO, mec_uara)")
    power_w: Positive = Field(default=5.0, description="a medium-range BS has at most 38 dBm (3GPP TS 38.104)")
    positions: tuple[tuple[Finite, Finite], ...] | None = Field(default=None, description="[x, y] in metres")
    endpoint: Endpoint | None = Field(default=None, description="an existing server for `edgebrush ue`")
    link: Link | None = Field(default=None, description="measured rates; None: those of the radio channel")

    @model_serializer(mode="wrap")
    def _omit_missing_parts(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keeps the hash of scenarios without an endpoint or a link as it was before these fields existed."""
        added = ("endpoint", "link")
        return {name: value for name, value in serialise(self).items() if name not in added or value is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Bs:
        if self.endpoint is not None and self.count != 1:
            raise ValueError(f"endpoint is one server, but count = {self.count}; give each server its own entry")
        if self.positions is not None and len(self.positions) != self.count:
            raise ValueError(f"positions lists {len(self.positions)} places for count = {self.count}")
        if self.connection_limit < self.batch_limit:
            raise ValueError(f"connection_limit {self.connection_limit} is below batch_limit {self.batch_limit}")
        return self


class Scenario(Part):
    """A scenario. Raises pydantic's ``ValidationError``; ``load_scenario`` turns it into one line."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    description: str = ""
    horizon_s: Positive = Field(default=300.0, description="arrivals stop here; the episode then drains")
    area_m: tuple[Positive, Positive] = (400.0, 400.0)
    decision: Decision = Decision()
    cost: Cost = Cost()
    radio: Radio = Radio()
    mobility: Mobility = Mobility()
    broadcast_interval_s: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="interval of the BSs' load reports; 0 = always fresh, .inf = no reports"
    )
    arrivals: Arrivals
    images_per_request: dict[Annotated[int, Field(ge=1, le=16)], Share] = Field(
        default={1: 1.0}, description="number of images per request, and its share"
    )
    requests: tuple[RequestKind, ...]
    contents: tuple[Content, ...] = (Content(name="any", share=1.0, difficulty=1.0),)
    ues: tuple[Ue, ...]
    bss: tuple[Bs, ...]
    directory: Path = Field(default=Path(), exclude=True, description="the folder of relative file names")

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        for field in ("requests", "ues", "bss", "contents"):
            entries = getattr(self, field)
            if not entries:
                raise ValueError(f"{field} is empty; give at least one entry")
            names = [entry.name for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"{field} repeats a name in {names}; make the names differ")
        for field, shares in (
            ("requests", [entry.share for entry in self.requests]),
            ("contents", [entry.share for entry in self.contents]),
            ("images_per_request", list(self.images_per_request.values())),
        ):
            if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
                raise ValueError(f"{field}: the shares sum to {sum(shares):g}; they must sum to 1")
        linked = [bs.name for bs in self.bss if bs.link is not None]
        if linked and (self.radio.interference or not self.radio.downlink):
            raise ValueError(
                f"bss: {linked[0]} has a link, which needs radio.interference false and radio.downlink true"
            )
        if 0 < self.broadcast_interval_s < MIN_INTERVAL_S:
            raise ValueError(
                f"broadcast_interval_s = {self.broadcast_interval_s:g} is too short; "
                f"give 0 or at least {MIN_INTERVAL_S:g}"
            )
        return self

    @model_validator(mode="after")
    def _limited_size(self) -> Scenario:
        for field, count, most in (("ues", self.ue_count, MAX_UES), ("bss", self.bs_count, MAX_BSS)):
            if count > most:
                raise ValueError(f"{field}: {count:,} in total; at most {most:,} are possible")
        tasks = self.task_rate_hz * self.horizon_s
        if tasks > MAX_TASKS:
            raise ValueError(
                f"arrivals: {self.task_rate_hz:g} tasks/s for horizon_s = {self.horizon_s:g} "
                f"make {tasks:.3g} tasks; at most {MAX_TASKS:,} are possible; lower rate_hz or horizon_s"
            )
        return self

    @property
    def ue_count(self) -> int:
        return sum(ue.count for ue in self.ues)

    @property
    def bs_count(self) -> int:
        return sum(bs.count for bs in self.bss)

    @property
    def images_mean(self) -> float:
        """Mean images (tasks) per request."""
        return sum(images * share for images, share in self.images_per_request.items())

    @property
    def task_rate_hz(self) -> float:
        """Long-run mean tasks per second over all UEs."""
        users = sum(ue.count * ue.rate_factor for ue in self.ues)
        arrivals = self.arrivals
        if isinstance(arrivals, TraceArrivals):
            return users * arrivals.rate_hz
        factor = 1.0
        if isinstance(arrivals, BurstyArrivals):
            stay = arrivals.calm_s + arrivals.burst_s
            factor = (arrivals.calm * arrivals.calm_s + arrivals.burst * arrivals.burst_s) / stay
        return users * arrivals.rate_hz * factor * self.images_mean
