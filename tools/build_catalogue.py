"""Build the catalogue of profiles from published measurements in a folder of CSV files.

    python tools/build_catalogue.py ../shared/data/gdm-profiles    writes src/edgebrush/profiles/catalogue/*.json

Every number keeps its source. A number that no source gives is an assumption, and the profile marks it as one:
- the *shape* of a quality curve is that of SD 1.5 under DPM-Solver++; its *ceiling* is a model's CLIP over SDXL's;
- a phone's NPU draws 5 W while it computes (no public measurement; 3 to 8 W is plausible);
- a tenth of a server's fixed time is the text encoder, the rest the VAE decoder.
"""

import csv
import json
import re
import sys
from pathlib import Path

from edgebrush.profiles.catalogue import CATALOGUE
from edgebrush.profiles.fit import fit_affine, fit_quality
from edgebrush.profiles.schema import Compute, Energy, Profile, Quality, QualityPoint

PHONE_W = 5.0
ENCODE_SHARE = 0.1
ENCODER_ASSUMED = "a tenth of the fixed part is the text encoder"
LIGHT = {  # row of device.csv -> profile name
    "Snapdragon 8 Elite Gen 5": "sd15-snapdragon-8-elite-gen-5",
    "Snapdragon 8 Elite (Galaxy S25)": "sd15-snapdragon-8-elite",
    "Snapdragon 8 Gen 3 (Galaxy S24)": "sd15-snapdragon-8-gen-3",
    "Snapdragon 8 Gen 2 class (QCS8550)": "sd15-snapdragon-8-gen-2",
    "Snapdragon 7 Gen 4": "sd15-snapdragon-7-gen-4",
    "iPhone 14 Pro Max": "sd21-iphone-14-pro-max",
}
HEAVY = {  # row of server.csv -> (profile name, model in quality.csv whose CLIP score is the ceiling)
    "sdxl-base": ("sdxl-a100", "sdxl-base"),
    "sd15-class (openjourney-v4)": ("sd15-a100", "sd14"),
    "sd35-medium": ("sd35-medium-h100", "sdxl-base"),
    "pixart-sigma": ("pixart-sigma-h100", "sdxl-base"),
}


def main(folder: Path) -> None:
    for profile in build(folder):
        (CATALOGUE / f"{profile.name}.json").write_text(as_json(profile), encoding="utf-8")
        print(f"{profile.name}: quality RMSE {profile.quality.error:.3f}")


def build(folder: Path) -> list[Profile]:
    """Build all profiles from device.csv, server.csv and quality.csv in the folder."""
    devices, servers, qualities = (read_rows(folder / f"{name}.csv") for name in ("device", "server", "quality"))
    profiles = [light_profile(row, qualities) for row in devices if row["device"] in LIGHT]
    return profiles + [heavy_profile(row, qualities) for row in servers if row["model"] in HEAVY]


def as_json(profile: Profile) -> str:
    """Format a profile as its file: numbers with six digits, so that the file is the same on every machine."""
    return json.dumps(rounded(profile.model_dump()), indent=2, ensure_ascii=False) + "\n"


def rounded(value):
    """Round every float in a nested structure to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def read_rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def light_profile(row: dict, quality_rows: list[dict]) -> Profile:
    """Build a phone\'s profile: an unbatched step, its energy from an assumed power."""
    step_s, fixed_s = float(row["s_per_step"]), float(row["fixed_s"])
    measured_energy = bool(row["j_per_step"]) and "ASSUMED" not in row["status"]
    assert not measured_energy, "device.csv has a measured energy: use it here"
    return Profile(
        name=LIGHT[row["device"]],
        title=f"{row['model']} on {row['device']}",
        role="light",
        model=row["model"],
        hardware=row["device"],
        resolution_px=int(row["resolution_px"]),
        compute=Compute(
            encode_s=0.0,
            decode_s=fixed_s,
            round_intercept_s=0.0,
            round_slope_s=step_s,
            source=f"{row['source']}: {row['status']}",
        ),
        energy=Energy(
            fixed_j=PHONE_W * fixed_s,
            round_intercept_j=0.0,
            round_slope_j=PHONE_W * step_s,
            source="seconds as above",
            assumption=f"the phone draws {PHONE_W:g} W more while it computes (3 to 8 W is plausible)",
        ),
        quality=build_quality("sd14", quality_rows, f"{row['model']} reaches sd14's ceiling; "),
    )


def heavy_profile(row: dict, quality_rows: list[dict]) -> Profile:
    """Build a server\'s profile: affine seconds and joules per round."""
    name, ceiling_of = HEAVY[row["model"]]
    assumed = "" if row["model"] == ceiling_of else f"{row['model']} reaches {ceiling_of}'s ceiling; "
    fixed_s = float(row["fixed_s"] or 0.0)
    one, eight = float(row["j_per_step_b1"]), float(row["j_per_step_b8"])
    intercept_j, slope_j, _ = fit_affine([1, 8], [one, 8 * eight])
    energy_assumed = ""
    if intercept_j < 0:  # a little superlinear: keep batch 8's joules per task
        intercept_j, slope_j = 0.0, eight
        energy_assumed = f"batch 8's joules at every size (alone it was {one:g})"
    return Profile(
        name=name,
        title=f"{row['model']} on {row['hardware']}",
        role="heavy",
        model=row["model"],
        hardware=row["hardware"],
        resolution_px=int(row["resolution_px"]),
        compute=Compute(
            encode_s=ENCODE_SHARE * fixed_s,
            decode_s=(1 - ENCODE_SHARE) * fixed_s,
            round_intercept_s=float(row["batch_intercept_s"]),
            round_slope_s=float(row["batch_slope_s"]),
            error=held_out_error(row["status"], "delay"),
            r_squared=find_number(r"R2 ([\d.]+)", row["status"]),
            source=f"{row['source']}: {row['status']}",
            assumption=ENCODER_ASSUMED if fixed_s else "the fixed part lies in the slope",
        ),
        energy=Energy(
            fixed_j=float(row["fixed_j"] or 0.0),
            round_intercept_j=intercept_j,
            round_slope_j=slope_j,
            error=held_out_error(row["status"], "energy"),
            source=f"{row['source']}: joules per step at batch 1 and 8",
            assumption=energy_assumed,
        ),
        quality=build_quality(ceiling_of, quality_rows, assumed),
    )


def held_out_error(status: str, what: str) -> float | None:
    """Return the relative error on held-out runs, if the source states it."""
    percent = find_number(rf"([\d.]+)% \({what}\)", status)
    return None if percent is None else round(percent / 100, 6)


def find_number(pattern: str, status: str) -> float | None:
    """Return the number in the first group of a pattern, or None where it does not match."""
    found = re.search(pattern, status)
    return float(found[1]) if found else None


def build_quality(model: str, rows: list[dict], assumption: str = "") -> Quality:
    """Build the quality block: SD 1.5\'s curve shape below the ceiling of ``model``."""
    clip = {row["model"]: float(row["value"]) for row in rows if row["metric"] == "clip"}
    ceiling = clip[model] / clip["sdxl-base"]
    shape = [row for row in rows if row["model"] == "sd15"]
    floor = 14.31  # of the power law 14.31 + 1026 k^-3.60 through these points, see the data's README
    points = tuple(
        QualityPoint(steps=int(row["steps"]), quality=round(ceiling * floor / float(row["value"]), 4)) for row in shape
    )
    half_steps, sharpness, error = fit_quality(points, ceiling)
    return Quality(
        ceiling=ceiling,
        half_steps=half_steps,
        sharpness=sharpness,
        points=points,
        error=error,
        source=f"ceiling: CLIP of {model} over SDXL's, COCO-30K (BK-SDM model card and a later table); "
        "shape: FID of SD 1.5, DPM-Solver++(2M), COCO 512 px, 4 to 10 steps (table of a later paper)",
        assumption=f"{assumption}ceiling and shape come from two protocols; quality is ceiling x FID floor / FID",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
