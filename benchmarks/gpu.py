"""What a GPU gains from CUDA graphs, a VAE in bfloat16 and step-level batching; needs a GPU and `[diffusers]`.

    python benchmarks/gpu.py --out runs/gpu                       rounds, decoding and serving; 5 minutes on an H100
    python benchmarks/gpu.py --parts rounds vae --shapes sdxl
    python benchmarks/gpu.py --device cpu --shapes tiny-sd15      to see that it runs

  rounds   a denoising step of a batch with guidance 7.5, every kernel launched by itself and from a CUDA graph, and by
           how much the two predictions differ, relative to their largest value
  vae      decoding an image: in float32, in bfloat16, and four together; the largest difference in grey levels
  serve    `edgebrush serve --pipeline` with a pipeline of that shape, saved to disk and read back: the batch that the
           memory holds, one image against diffusers' own call, images/s one at a time and many at once

The pipelines have random weights: speed does not depend on them. Tables are printed and written to --out as gpu.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import httpx2
import numpy as np
import torch
from PIL import Image

from edgebrush.diffusion.pipelines import PipelineBackend, load_pipeline
from edgebrush.diffusion.shapes import WORD, build_shape, shape_prompt
from edgebrush.diffusion.warm_up import warm_up
from edgebrush.files import check_writable, write_text

BATCHES = (1, 2, 4, 8, 16)
GUIDANCE = 7.5
REPEATS = 20
STEPS = 20  # of the served images
IMAGES = 32  # served at once
SEED = 7


def median_ms(action: Callable[[], Any], backend: PipelineBackend) -> float:
    """The median milliseconds of an action, after three untimed ones."""
    times = []
    for repeat in range(REPEATS + 3):
        start = time.perf_counter()
        action()
        backend.synchronize()
        if repeat >= 3:
            times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def time_rounds(backend: PipelineBackend) -> list[dict[str, Any]]:
    """Rounds by batch size, without and with graphs, on the same inputs."""
    print(warm_up(backend, max(BATCHES)), flush=True)
    graphs, condition = backend.graphs, backend.encode(shape_prompt(GUIDANCE))
    rows = []
    for batch in BATCHES:
        samples = [backend.noise(seed) for seed in range(batch)]
        times, conditions = list(np.linspace(900, 100, batch)), [condition] * batch
        row: dict[str, Any] = {"shape": backend.name, "batch": batch}
        outputs = []
        for name, used in (("eager_ms", None), ("graphs_ms", graphs)):
            backend.graphs = used
            row[name] = median_ms(lambda: backend.predict(samples, times, conditions), backend)  # noqa: B023
            outputs.append(torch.stack(backend.predict(samples, times, conditions)))
        row["difference"] = float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())
        print(" ".join(f"{key} {value:.4g}" if key != "shape" else value for key, value in row.items()), flush=True)
        rows.append(row)
    backend.graphs = graphs
    return rows


def time_decoding(backend: PipelineBackend) -> list[dict[str, Any]]:
    """Milliseconds an image, and the difference from float32."""
    samples = [backend.noise(seed) for seed in range(4)]
    rows, exact = [], None
    for dtype in (torch.float32, torch.bfloat16):
        backend.pipe.vae.to(dtype)
        images = np.stack(backend.decode(samples)).astype(int)
        exact = images if exact is None else exact
        alone = median_ms(lambda: backend.decode(samples[:1]), backend)
        together = median_ms(lambda: backend.decode(samples), backend) / len(samples)
        row = {"shape": backend.name, "vae": str(dtype).removeprefix("torch."), "alone_ms": alone}
        row |= {"of_four_ms": together, "difference": int(np.abs(images - exact).max())}
        print(row, flush=True)
        rows.append(row)
    return rows


def serve(shape: str, options: argparse.Namespace) -> dict[str, Any]:
    """Save a pipeline, serve it in a process, and send requests."""
    with TemporaryDirectory() as folder:
        build_shape(shape, options.device).pipe.save_pretrained(folder)
        torch.cuda.empty_cache()
        command = [
            sys.executable,
            "-m",
            "edgebrush.cli.main",
            "serve",
            "--pipeline",
            folder,
            "--device",
            options.device,
        ]
        command += ["--profile", "sd15-a100", "--sampler", "ddim", "--batch-limit", "8", "--port", "0"]
        command += ["--queue-limit", str(IMAGES), "--threads", str(os.cpu_count())]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            ready_s = time.perf_counter() - started
            with httpx2.Client(base_url=url, timeout=300) as client:
                row = {"shape": shape, "ready_s": ready_s} | measure_station(client)
                image = generate(client, SEED)
        finally:
            process.terminate()
            process.wait()
        row["difference"] = int(np.abs(image.astype(int) - own_call(folder, options.device)).max())
    print(row, flush=True)
    return row


def generate(client: httpx2.Client, seed: int) -> np.ndarray:
    """An image of the station, (H, W, 3)."""
    body = {"prompt": WORD, "seed": seed, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    reply = client.post("/v1/images/generations", json=body).raise_for_status().json()
    return np.asarray(Image.open(io.BytesIO(b64decode(reply["data"][0]["b64_json"]))))


def measure_station(client: httpx2.Client) -> dict[str, Any]:
    """The station's batch limit, and its images/s one at a time and many at once."""
    rates = {}
    for name, count, workers in (("one_at_a_time_per_s", IMAGES // 4, 1), ("together_per_s", IMAGES, IMAGES)):
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda seed: generate(client, seed), range(count)))
        rates[name] = count / (time.perf_counter() - start)
    return {"batch_limit": client.get("/v1/load").json()["batch_limit"], **rates}


def own_call(folder: str, device: str) -> np.ndarray:
    """The image that diffusers itself generates from the same noise, in the same number types."""
    backend = load_pipeline(folder, device)
    pipe = backend.pipe
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    noise = backend.noise(SEED)[None].to(backend.dtype)
    latents = pipe(WORD, latents=noise, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent").images
    return backend.decode([latents[0].float()])[0].astype(int)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["sd15", "sdxl"], help="see diffusion/shapes.py (sd15 sdxl)")
    parser.add_argument("--parts", nargs="+", choices=["rounds", "vae", "serve"], default=["rounds", "vae", "serve"])
    parser.add_argument("--device", default="cuda", help="cuda or cpu (cuda)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="where gpu.json goes (runs/gpu)")
    options = parser.parse_args()
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else "none"
    results: dict[str, Any] = {"gpu": gpu, "torch": torch.__version__, "rounds": [], "vae": [], "serve": []}
    check_writable(options.out)
    for shape in options.shapes:
        if {"rounds", "vae"} & set(options.parts):
            backend = build_shape(shape, options.device)
            results["rounds"] += time_rounds(backend) if "rounds" in options.parts else []
            results["vae"] += time_decoding(backend) if "vae" in options.parts else []
            del backend
            torch.cuda.empty_cache()
            write_text(options.out / "gpu.json", json.dumps(results, indent=2) + "\n")
        if "serve" in options.parts:
            results["serve"].append(serve(shape, options))
            write_text(options.out / "gpu.json", json.dumps(results, indent=2) + "\n")
    print(f"written: {options.out}/gpu.json")


if __name__ == "__main__":
    main()
