"""The catalogue's curves fit its points, heavy models beat light ones, sources are named; the fits recover curves."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from edgebrush.profiles.catalogue import CATALOGUE, catalogue_names, load_profile
from edgebrush.profiles.fit import CONCAVE_FROM, fit_affine, fit_quality, fit_round, fit_saturating, inflection
from edgebrush.profiles.schema import QualityPoint

ROOT = Path(__file__).parents[2]
PUBLISHED_DATA = ROOT.parent / "shared" / "data" / "gdm-profiles"
PROFILES = [load_profile(name) for name in catalogue_names()]
MEASURED = [load_profile(name) for name in ("fashion-light-cpu", "fashion-heavy-cpu")]  # the models that ship
ON_GPU = [load_profile(name) for name in ("sd15-h100", "sdxl-h100")]  # random weights, the quality of published ones
PUBLISHED = [profile for profile in PROFILES if profile not in MEASURED + ON_GPU]
STEPS = np.arange(1, 101)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_refitting_the_stored_points_gives_the_stored_curve(profile):
    quality = profile.quality
    fitted = fit_quality(quality.points, quality.ceiling)
    assert fitted == pytest.approx((quality.half_steps, quality.sharpness, quality.error), rel=1e-4)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_quality_is_increasing_and_concave_below_its_ceiling(profile):
    quality = profile.quality.at(STEPS)
    assert np.all(np.diff(quality) > 0) and quality[-1] < profile.quality.ceiling
    assert np.all(np.diff(quality[int(CONCAVE_FROM) - 1 :], n=2) < 0)


def test_heavy_models_lie_above_light_ones_at_every_step_count():
    """At any difficulty. sd15-a100 is the same model as the phones', so its quality only equals theirs."""
    light = [profile for profile in PUBLISHED if profile.role == "light"]
    heavy = [profile for profile in PUBLISHED if profile.role == "heavy"]
    assert len(light) >= 5 and len(heavy) >= 3
    for difficulty in (0.1, 1.0, 10.0):
        best_light = np.max([profile.quality.at(STEPS, difficulty) for profile in light], axis=0)
        for profile in heavy:
            margin = profile.quality.at(STEPS, difficulty) - best_light
            assert np.all(margin == 0 if profile.name == "sd15-a100" else margin > 0)


def test_the_shipped_heavy_model_beats_the_light_one_at_every_step_count_and_costs_more():
    light, heavy = MEASURED
    for a, b in zip(light.quality.points, heavy.quality.points, strict=True):
        assert a.steps == b.steps
        assert b.quality - a.quality > 2.0 * np.hypot(a.standard_error, b.standard_error)
    assert heavy.compute.round_s(1) > 3.0 * light.compute.round_s(1)


def test_every_block_has_a_source_and_phone_energy_is_marked_as_assumed():
    for profile in MEASURED:
        assert "measured" in profile.compute.source and "measured" in profile.quality.source
    for profile in PUBLISHED:
        assert all(block.source for block in (profile.compute, profile.energy, profile.quality))
        assert profile.quality.assumption
        assert profile.role == "heavy" or "5 W" in profile.energy.assumption


def test_the_profiles_measured_on_a_gpu_are_those_of_their_points():
    tool = runpy.run_path(str(ROOT / "tools" / "build_measured.py"))
    built = tool["build"]()
    assert [profile.name for profile in built] == [profile.name for profile in ON_GPU]
    for profile in built:
        assert tool["as_json"](profile) == (CATALOGUE / f"{profile.name}.json").read_text()
        assert profile.compute.error < 0.1 and profile.energy.error < 0.1
        assert "measured on NVIDIA H100" in profile.compute.source and "NVML" in profile.energy.source
        assert "not measured here" in profile.quality.assumption


def test_profile_names_equal_file_names():
    assert [profile.name for profile in PROFILES] == catalogue_names()


@pytest.mark.skipif(not PUBLISHED_DATA.is_dir(), reason="the published measurements are not beside the repository")
def test_build_script_gives_the_files_that_ship():
    tool = runpy.run_path(str(ROOT / "tools" / "build_catalogue.py"))
    built = {profile.name: profile for profile in tool["build"](PUBLISHED_DATA)}
    assert sorted(built) == [profile.name for profile in PUBLISHED]
    for name, profile in built.items():
        assert tool["as_json"](profile) == (CATALOGUE / f"{name}.json").read_text()


def test_quality_fit_recovers_a_curve_from_its_own_points():
    half_steps, sharpness, ceiling = 2.5, 1.4, 0.9
    points = [QualityPoint(steps=k, quality=ceiling / (1 + (half_steps / k) ** sharpness)) for k in (2, 4, 8, 15, 30)]
    assert fit_quality(points, ceiling) == pytest.approx((half_steps, sharpness, 0.0), rel=1e-4, abs=1e-6)


def test_quality_fit_stays_concave_where_the_points_are_not():
    points = [QualityPoint(steps=k, quality=0.9 / (1 + (8 / k) ** 3)) for k in (2, 4, 8, 15)]
    half_steps, sharpness, error = fit_quality(points, 0.9)
    assert inflection(half_steps, sharpness) == pytest.approx(CONCAVE_FROM, rel=1e-6)
    assert error > 0.01


def test_quality_fit_emits_no_warning(recwarn):
    fit_quality([QualityPoint(steps=k, quality=q) for k, q in ((1, 0.0), (500, 0.01), (1000, 0.99))], 1.0)
    assert not recwarn.list


def test_affine_fit():
    intercept, slope, error = fit_affine([1, 2, 4, 8], [3.0, 5.0, 9.0, 17.0])
    assert (intercept, slope, error) == pytest.approx((1.0, 2.0, 0.0), abs=1e-12)
    assert fit_affine([1, 2, 4], [3.0, 5.0, 8.0])[2] > 0.01


def test_saturating_fit_recovers_the_ceiling():
    points = [QualityPoint(steps=k, quality=0.8 / (1 + (2.0 / k) ** 1.3)) for k in (1, 2, 4, 8, 15, 30)]
    assert fit_saturating(points) == pytest.approx((0.8, 2.0, 1.3, 0.0), rel=1e-3, abs=1e-5)


def test_round_fit_is_affine_and_never_negative():
    assert fit_round([1, 2, 4, 8], [3.0, 5.0, 9.0, 17.0]) == pytest.approx((1.0, 2.0, 0.0), abs=1e-9)
    intercept, slope, error = fit_round([1, 2, 4], [1.0, 2.1, 4.4])  # more than linear: a line through 0
    assert intercept == 0.0 and 1.0 < slope < 1.1 and 0.0 < error < 0.1


def test_a_points_standard_error_is_written_only_where_there_is_one():
    assert QualityPoint(steps=1, quality=0.5).model_dump() == {"steps": 1, "quality": 0.5}
    point = QualityPoint(steps=1, quality=0.5, standard_error=0.01)
    assert QualityPoint.model_validate_json(point.model_dump_json()) == point
