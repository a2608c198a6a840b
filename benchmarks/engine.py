"""Throughput and latency of step-level batching against two other servers, with real models and in real time.

    python benchmarks/engine.py                      light and heavy, 6 minutes on two cores
    python benchmarks/engine.py --quick              the same in half a minute, to see that it runs
    python benchmarks/engine.py --models ~/stable-diffusion-v1-5 --device cuda --prompt "a red fox" --guidance 7.5
    python benchmarks/engine.py --models sd15 --device cuda --guidance 7.5      SD 1.5's shape with random weights
    python benchmarks/engine.py --models light --pace sd15-a100 --speed 4 --seconds 60 --out runs/engine-paced

With --pace, a round takes as long as a profile states (divided by --speed). This shows the engine with the published
figures of another machine, e.g. a GPU: the process sleeps during the rounds, and the images are the light model's.

First, a round (one denoising step of a batch) is timed for several batch sizes, on one thread and on --threads. The
gain of a batch of b is b times the round of 1 divided by the round of b. Then all servers get the same Poisson
arrivals, at --loads times the measured rate of one request at a time. Step counts are uniform over 2, 4, 6, 8, 10, 15,
20, 30 and 50.

  one at a time   a request runs alone, from its first step to its last
  static          the waiting requests form a batch, and no other enters before its last request has finished. In the
                  best case for this server, a finished request leaves at once and is not computed any further
  step-level      requests enter and leave between any two steps

Latency is the time from a request's arrival to its image. Throughput is the number of requests divided by the time from
the first arrival to the last image; above a load of 1 it is the server's maximum. Tables are printed, and written to
--out together with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgebrush.diffusion.backend import Backend, Prompt
from edgebrush.diffusion.engine import Engine, Job, Request
from edgebrush.diffusion.onnx import CARD, load_model, shipped_models
from edgebrush.diffusion.pacing import PacedBackend
from edgebrush.diffusion.samplers import make_sampler
from edgebrush.errors import UserError
from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.machine import processor_name
from edgebrush.profiles.catalogue import load_profile

STEP_COUNTS = (2, 4, 6, 8, 10, 15, 20, 30, 50)
BATCHES = (1, 2, 4, 8, 16)
ROUNDS_PER_TURN = 10
NO_LIMIT = 10**9


@dataclass(frozen=True)
class RoundTime:
    """The median round of a batch, and the gain in images per second over a batch of one."""

    model: str
    threads: int
    batch: int
    round_ms: float
    gain: float


@dataclass(frozen=True)
class Served:
    """A server's performance; rates in 1/s, latencies in s."""

    model: str
    threads: int
    load: float
    server: str
    requests: int
    arrival_rate: float
    throughput: float
    p50: float
    p95: float


class StaticEngine(Engine):
    """An engine where no request enters before the whole batch has left."""

    def admit(self) -> None:
        if not self.running:
            super().admit()


def engine_of(backend: Backend, batch_limit: int, kind: type[Engine] = Engine) -> Engine:
    return kind(backend, make_sampler(None, backend), batch_limit, NO_LIMIT, NO_LIMIT)


def paced(backend: Backend, options: argparse.Namespace) -> Backend:
    if options.pace is None:
        return backend
    return PacedBackend(backend, load_profile(options.pace).compute, options.speed, lambda seconds: None)


def open_backend(model: str, threads: int, options: argparse.Namespace) -> Backend:
    if model in shipped_models() or (Path(model) / CARD).exists():
        return load_model(model, threads)
    import torch

    from edgebrush.diffusion.pipelines import load_pipeline
    from edgebrush.diffusion.shapes import SHAPES, build_shape
    from edgebrush.diffusion.warm_up import warm_up

    torch.set_num_threads(threads)
    backend = build_shape(model, options.device) if model in SHAPES else load_pipeline(model, options.device)
    print(warm_up(backend, max(*BATCHES, options.batch_limit), options.cuda_graphs))
    return backend


def prompt_of(backend: Backend, options: argparse.Namespace) -> Prompt:
    text = options.prompt or getattr(backend, "classes", ["class"])[0]
    return Prompt(text, options.negative, options.guidance)


def time_rounds(backend: Backend, prompt: Prompt, threads: int, seconds: float) -> list[RoundTime]:
    """Time full batches of each size. Sizes alternate, so a disturbance affects all. Each turn has a warm-up round."""
    times: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    until = time.perf_counter() + seconds
    while not times[1] or time.perf_counter() < until:
        for batch in BATCHES:
            engine = engine_of(backend, batch)
            for seed in range(batch):
                engine.submit(
                    Request(prompt, ROUNDS_PER_TURN + 2, seed)
                )  # so that no image is decoded in a timed round
            engine.round()
            for _ in range(ROUNDS_PER_TURN):
                start = time.perf_counter()
                engine.round()
                times[batch].append(time.perf_counter() - start)
    medians = {batch: float(np.median(each)) for batch, each in times.items()}
    return [
        RoundTime(backend.name, threads, batch, 1000 * median, batch * medians[1] / median)
        for batch, median in medians.items()
    ]


def requests_of(prompt: Prompt, count: int, seed: int) -> list[Request]:
    steps = np.random.default_rng(seed).choice(STEP_COUNTS, count)
    return [Request(prompt, int(each), number) for number, each in enumerate(steps)]


def capacity(backend: Backend, prompt: Prompt, seconds: float) -> float:
    """Requests per second, one at a time and back to back, with equally frequent step counts."""
    engine = engine_of(backend, 1)
    start, served = time.perf_counter(), 0
    while served == 0 or time.perf_counter() < start + seconds:
        for steps in STEP_COUNTS:
            engine.submit(Request(prompt, steps, served))
        while engine.round():
            pass
        served += len(STEP_COUNTS)
    return served / (time.perf_counter() - start)


def serve(engine: Engine, requests: list[Request], arrivals: np.ndarray) -> np.ndarray:
    """Serve requests that arrive at ``arrivals`` (N,) s. Returns the end times (N,) of their images in s."""
    ended = np.full(len(requests), np.nan)
    start = time.perf_counter()

    def note(job: Job) -> None:
        if job.steps_done == job.request.steps:
            ended[job.number] = time.perf_counter() - start

    came = 0
    while np.isnan(ended).any():
        now = time.perf_counter() - start
        while came < len(requests) and arrivals[came] <= now:
            engine.submit(requests[came], note)
            came += 1
        if not engine.round() and came < len(requests):
            time.sleep(max(0.0, start + arrivals[came] - time.perf_counter()))
    return ended


def compare(backend: Backend, prompt: Prompt, rate: float, load: float, options: argparse.Namespace) -> list[Served]:
    """The three servers on the same requests and arrivals."""
    count = max(2, round(load * rate * options.seconds))
    draw = np.random.default_rng(options.seed)
    arrivals = np.cumsum(draw.exponential(1.0 / (load * rate), count))
    requests = requests_of(prompt, count, options.seed + 1)
    servers = {
        "one at a time": engine_of(backend, 1),
        "static": engine_of(backend, options.batch_limit, StaticEngine),
        "step-level": engine_of(backend, options.batch_limit),
    }
    rows = []
    for name, engine in servers.items():
        ended = serve(engine, requests, arrivals)
        p50, p95 = np.quantile(ended - arrivals, (0.5, 0.95)).tolist()
        throughput = count / float(ended.max() - arrivals[0])
        row = Served(backend.name, options.threads, load, name, count, load * rate, throughput, p50, p95)
        print(f"{name:<16}{load:>6.2f}{throughput:>12.2f}{p50:>10.3f}{p95:>10.3f}", flush=True)
        rows.append(row)
    return rows


def benchmark(model: str, options: argparse.Namespace) -> tuple[list[RoundTime], list[Served]]:
    rounds: list[RoundTime] = []
    print(f"\n{model}\n{'threads':<10}{'batch':>6}{'round, ms':>12}{'gain':>8}")
    for threads in sorted({1, options.threads}) if options.device == "cpu" else [options.threads]:
        backend = open_backend(model, threads, options)
        prompt = prompt_of(backend, options)
        backend = paced(backend, options)
        for row in time_rounds(backend, prompt, threads, options.seconds / 2):
            print(f"{threads:<10}{row.batch:>6}{row.round_ms:>12.3f}{row.gain:>8.2f}", flush=True)
            rounds.append(row)
    rate = capacity(backend, prompt, options.seconds / 4)
    print(f"one at a time, {options.threads} threads: {rate:.2f} requests/s; batches of up to {options.batch_limit}")
    print(f"{'server':<16}{'load':>6}{'images/s':>12}{'p50, s':>10}{'p95, s':>10}")
    return rounds, [row for load in options.loads for row in compare(backend, prompt, rate, load, options)]


def write(folder: Path, rounds: list[RoundTime], served: list[Served], options: argparse.Namespace) -> None:
    """rounds.csv, servers.csv and engine.json, which holds the settings and the machine."""
    check_writable(folder)
    for name, rows in (("rounds.csv", rounds), ("servers.csv", served)):
        short = [{k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows]
        write_csv(folder / name, short)
    machine = {"processor": processor_name(), "cores": os.cpu_count(), "python": platform.python_version()}
    about = {"settings": {**vars(options), "out": str(options.out)}, "machine": machine}
    write_text(folder / "engine.json", json.dumps(about, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        default=["light", "heavy"],
        metavar="MODEL",
        help="shipped models, folders of one, diffusers pipelines on disk, or shapes such as sd15 (light heavy)",
    )
    add("--device", default="cpu", help="of pipelines: cpu, cuda (cpu)")
    add("--prompt", help="of all requests (a model's first class)")
    add("--negative", default="", help="negative prompt of all requests (empty)")
    add("--guidance", type=float, default=1.0, help="of all requests; above 1, a step evaluates the network twice (1)")
    add("--no-cuda-graphs", dest="cuda_graphs", action="store_false", help="launch every kernel by itself")
    add("--pace", metavar="PROFILE", help="emulate the round times of this profile, see `edgebrush profiles`")
    add("--speed", type=float, default=1.0, help="with --pace: speed relative to the profile's hardware (1)")
    add("--threads", type=int, default=os.cpu_count(), help="of a network evaluation on the processor (all cores)")
    add("--batch-limit", type=int, default=8, help="maximum batch size (8)")
    add("--loads", nargs="+", type=float, default=[0.9, 1.5], help="arrivals relative to one at a time (0.9 1.5)")
    add("--seconds", type=float, default=20.0, help="of arrivals for each server (20)")
    add("--seed", type=int, default=1, help="of arrivals and step counts (1)")
    add("--out", type=Path, default=Path("runs/engine"), help="where the tables go (runs/engine)")
    add("--quick", action="store_true", help="1.5 seconds of arrivals instead of --seconds")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 1.5
    rounds: list[RoundTime] = []
    served: list[Served] = []
    try:
        for model in options.models:
            more_rounds, more_served = benchmark(model, options)
            rounds, served = rounds + more_rounds, served + more_served
    except UserError as error:
        parser.exit(2, f"{error}\n")
    write(options.out, rounds, served, options)
    print(f"\nwritten: {options.out}/rounds.csv, servers.csv, engine.json")


if __name__ == "__main__":
    main()
