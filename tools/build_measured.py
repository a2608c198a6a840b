"""Build the profiles of the catalogue that were measured on a GPU, from their points in docs/results/gdm.

    python tools/build_measured.py        writes src/edgebrush/profiles/catalogue/sd15-h100.json and sdxl-h100.json

The points are the .csv files of these commands on one NVIDIA H100 (26 November 2026, torch 2.11, diffusers 0.42.1):

    edgebrush profile --shape sd15 --device cuda --guidance 7.5 --quality-from sd15-a100 --out sd15-h100.json
    edgebrush profile --shape sdxl --device cuda --guidance 7.5 --quality-from sdxl-a100 --out sdxl-h100.json
"""

import csv
from pathlib import Path
from types import SimpleNamespace

from edgebrush.profiles.catalogue import CATALOGUE, load_profile
from edgebrush.profiles.schema import Profile
from edgebrush.profiling.measure import Costs, Timing
from edgebrush.profiling.profile_writer import compute_block, copy_quality, energy_block

POINTS = Path(__file__).parents[1] / "docs" / "results" / "gdm"
HARDWARE = "NVIDIA H100 80GB HBM3"
GUIDANCE = 7.5
HOW = "random weights of the published shape, float16, CUDA graphs; 26 November 2026"
METER = SimpleNamespace(source="NVML, the whole GPU, idle power included", assumption="")
MODELS = {  # name -> (model, pixels of an image's side, profile whose quality is copied)
    "sd15-h100": ("Stable Diffusion 1.5", 512, "sd15-a100"),
    "sdxl-h100": ("Stable Diffusion XL", 1024, "sdxl-a100"),
}


def main() -> None:
    for profile in build():
        (CATALOGUE / f"{profile.name}.json").write_text(as_json(profile), encoding="utf-8")
        print(f"{profile.name}: seconds within {profile.compute.error:.1%}, joules within {profile.energy.error:.1%}")


def build() -> list[Profile]:
    """Build all profiles from their points."""
    return [build_profile(name, *about) for name, about in MODELS.items()]


def build_profile(name: str, model: str, side_px: int, quality_of: str) -> Profile:
    """Fit a profile to the points in its .csv file."""
    costs = read_costs(POINTS / f"{name}.csv", side_px)
    compute = compute_block(costs, "heavy", HARDWARE, GUIDANCE)
    return Profile(
        name=name,
        title=f"{model} on {HARDWARE}",
        role="heavy",
        model=model,
        hardware=HARDWARE,
        resolution_px=side_px,
        compute=compute.model_copy(update={"source": f"{compute.source}; {HOW}"}),
        energy=energy_block(costs, "heavy", METER),
        quality=copy_quality(load_profile(quality_of)),
    )


def read_costs(path: Path, side_px: int) -> Costs:
    """Read the timings of a .csv file, which has one number for the joules of encoding and decoding."""
    with path.open(newline="") as file:
        rows = {(row["quantity"], int(row["at"] or 0)): row for row in csv.DictReader(file)}
    batches = sorted(batch for quantity, batch in rows if quantity == "round_s")
    rounds = {batch: timing(rows["round_s", batch], float(rows["round_j", batch]["value"])) for batch in batches}
    encode, decode = timing(rows["encode_s", 0], 0.0), timing(rows["decode_s", 0], float(rows["fixed_j", 0]["value"]))
    return Costs(encode, decode, rounds, side_px)


def timing(row: dict[str, str], joules: float) -> Timing:
    return Timing(float(row["value"]), float(row["standard_error"]), joules, int(row["n"]))


def as_json(profile: Profile) -> str:
    return profile.model_dump_json(indent=2) + "\n"


if __name__ == "__main__":
    main()
