"""Measuring a profile: costs and quality, kept parts, files, the figure, and energy meters."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.samplers import Euler
from edgebrush.errors import UserError
from edgebrush.profiles.catalogue import load_profile
from edgebrush.profiling.measure import Costs, MeasurementPlan, Timing, WorkFolder, fingerprint
from edgebrush.profiling.meters import RaplMeter, StatedPower, find_meter, find_nvml_meter, find_rapl_meter
from edgebrush.profiling.plot import draw_measurements, save_measurement_figure
from edgebrush.profiling.profile_writer import (
    compute_block,
    fit_warnings,
    load_measured,
    measure_profile,
    profile_name,
    save_measured,
)
from edgebrush.profiling.quality import ClassifierScorer, Score
from edgebrush.profiling.quality_curve import NamedScorer
from tests.support.models import CLASSES

PROMPTS = tuple(Prompt(name) for name in CLASSES)
PLAN = MeasurementPlan(PROMPTS, steps=(1, 2, 4), samples=40, batches=(1, 4, 16))


@pytest.fixture(autouse=True)
def short_timings(monkeypatch):
    monkeypatch.setattr("edgebrush.profiling.measure.MIN_TIMING_S", 0.0)


class CountingScorer:
    """A scorer whose quality rises with each call."""

    calls = 0

    def score(self, images, prompts):
        self.calls += 1
        self.seen = images, prompts
        return Score(0.2 + 0.1 * self.calls, 0.01, len(images), {"calls": (float(self.calls), 0.0)})


def run(backend, folder, scorer=None, plan=PLAN, role="heavy", identity="one", quality_from=None):
    """Measure with a scorer or a profile; returns the result and the progress calls."""
    calls = []
    work = WorkFolder(folder / "work", {"model": identity})
    measured = measure_profile(
        backend,
        Euler(),
        plan,
        StatedPower(10.0),
        work,
        lambda *progress: calls.append(progress),
        role=role,
        name="My Model",
        hardware="here",
        quality_from=quality_from or NamedScorer(scorer, "counting"),
    )
    return measured, calls


def test_a_heavy_model_is_measured_completely(tiny, tmp_path):
    measured, calls = run(tiny, tmp_path, CountingScorer())
    profile = measured.profile
    assert (profile.name, profile.role, profile.resolution_px) == ("my-model", "heavy", 28)
    assert [point.quality for point in profile.quality.points] == pytest.approx([0.3, 0.4, 0.5])
    assert all(point.standard_error == 0.01 for point in profile.quality.points)
    assert "40 images per step count, Euler sampler, scored by counting" in profile.quality.source
    assert "stated, not measured" in profile.energy.assumption
    seconds, joules = (np.array(measured.points(name))[:, 1] for name in ("round_s", "round_j"))
    assert len(seconds) == 3 and np.all(seconds > 0)
    # The median, because a timing of microseconds may be interrupted between reading clock and meter.
    assert np.median(joules / seconds) == pytest.approx(10.0, rel=0.05)
    assert {phase for phase, _, _ in calls} == {"timing", "quality"}
    assert all(0.0 <= share <= 1.0 for _, share, _ in calls) and calls[-1][1] == 1.0


def test_a_light_model_is_unbatched(tiny, tmp_path):
    compute = run(tiny, tmp_path, CountingScorer(), role="light")[0].profile.compute
    assert compute.round_intercept_s == 0.0 and compute.round_slope_s > 0.0


def test_rounds_that_do_not_get_longer_are_rejected():
    rounds = {batch: Timing(1e-3 / batch, 0.0, 1e-2, 10) for batch in (1, 2, 4)}
    costs = Costs(rounds[1], rounds[1], rounds, 28)
    with pytest.raises(UserError, match=r"batches = \(1, 2, 4\): a round takes no longer"):
        compute_block(costs, "heavy", "here", 1.0)


def test_costs_that_do_not_fit_are_reported_before_any_image_is_generated(tiny, tmp_path, monkeypatch):
    falling = {batch: Timing(1e-3 / batch, 0.0, 1e-2, 10) for batch in (1, 2, 4)}
    costs = Costs(falling[1], falling[1], falling, 28)
    monkeypatch.setattr("edgebrush.profiling.profile_writer.measure_costs", lambda *_: costs)
    scorer = CountingScorer()
    with pytest.raises(UserError, match="a round takes no longer"):
        run(tiny, tmp_path, scorer)
    assert scorer.calls == 0


def test_a_poor_fit_is_worth_a_warning():
    profile = load_profile("sd15-a100")
    poor = profile.model_copy(update={"compute": profile.compute.model_copy(update={"error": 0.19})})
    assert fit_warnings(profile) == []
    assert ["seconds of a round miss the measured ones by 19%" in each for each in fit_warnings(poor)] == [True]


def test_nvml_counts_the_joules_of_pytorchs_device(monkeypatch):
    """CUDA_VISIBLE_DEVICES=1 makes NVML's card 1 PyTorch's cuda:0; only the UUID is the same for both."""
    cards = {"GPU-aaaa": 1_000, "GPU-bbbb": 2_000}  # millijoules
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=cards.__getitem__,
    )
    cuda = SimpleNamespace(get_device_properties=lambda device: SimpleNamespace(uuid={"cuda:0": "bbbb"}[device]))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, device=str))
    assert find_meter("cuda:0", None).joules() == 2.0
    assert find_nvml_meter("cuda:1") is None


def fake_zeus(monkeypatch, measurement=None):
    """The part of zeus 0.16 that reads counters (zeus/device, November 2026)."""
    gpus = SimpleNamespace(get_name=lambda index: "MI300X", get_total_energy_consumption=lambda index: 5_000)
    soc = SimpleNamespace(get_total_energy_consumption=lambda: measurement)
    device = SimpleNamespace(get_gpus=lambda: gpus, get_soc=lambda: soc)
    monkeypatch.setitem(sys.modules, "zeus", SimpleNamespace(device=device))
    monkeypatch.setitem(sys.modules, "zeus.device", device)
    monkeypatch.setattr("edgebrush.profiling.meters.find_rapl_meter", lambda: None)
    monkeypatch.setattr("edgebrush.profiling.meters.find_nvml_meter", lambda device: None)


def test_zeus_reads_an_amd_gpu(monkeypatch):
    fake_zeus(monkeypatch)
    meter = find_meter("cuda", None)
    assert meter.joules() == 5.0 and meter.source == "zeus, MI300X, the whole GPU, idle power included"


@pytest.mark.parametrize(
    ("measurement", "joules"),
    [
        ({"total_energy_mj": 7_000.0, "cpu_energy_mj": 2_000.0, "gpu_energy_mj": None}, 7.0),  # Jetson
        ({"cpu_total_mj": 2_000, "efficiency_cores_mj": [500], "dram_mj": 300, "gpu_mj": 1_000, "ane_mj": None}, 3.3),
    ],
)
def test_zeus_reads_a_whole_chip_once(monkeypatch, measurement, joules):
    fake_zeus(monkeypatch, SimpleNamespace(**measurement))
    assert find_meter("cpu", None).joules() == pytest.approx(joules)


def test_a_chip_that_zeus_cannot_measure_needs_a_stated_power(monkeypatch):
    fake_zeus(monkeypatch, SimpleNamespace())
    with pytest.raises(UserError, match="install zeus for AMD, Apple and Jetson, or state the power"):
        find_meter("cpu", None)


def test_images_use_the_prompts_in_turn_and_depend_only_on_the_seed(tiny, tmp_path):
    scorer = CountingScorer()
    strips = run(tiny, tmp_path, scorer)[0].strips
    images, prompts = scorer.seen
    assert [prompt.text for prompt in prompts[:4]] == ["circle", "square", "star", "circle"]
    sample = tiny.noise(17)
    for time in Euler().times(4):
        sample = sample - 0.25 * tiny.predict([sample], [time], [tiny.encode(PROMPTS[17 % 3])])[0]
    assert np.abs(tiny.decode([sample])[0].astype(int) - images[17]).max() <= 1
    assert strips[4].shape == (28, 280) and np.array_equal(strips[4][:, :28], images[0])


def test_finished_parts_are_kept_and_changed_ones_are_measured_again(tiny, tmp_path):
    class InterruptedScorer(CountingScorer):
        def score(self, images, prompts):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().score(images, prompts)

    interrupted, scorer = InterruptedScorer(), CountingScorer()
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path, interrupted)
    measured, _ = run(tiny, tmp_path, scorer)
    assert scorer.calls == 1  # only the last step count
    again, _ = run(tiny, tmp_path, CountingScorer())
    assert again.rows == measured.rows and again.profile == measured.profile
    other = CountingScorer()
    run(tiny, tmp_path, other, identity="two")
    more = CountingScorer()
    run(tiny, tmp_path, more, plan=MeasurementPlan(PROMPTS, (1, 2, 8), 40, (1, 4, 16)))
    assert other.calls == 3 and more.calls == 1


def test_an_incomplete_kept_part_is_measured_again(tiny, tmp_path):
    run(tiny, tmp_path, CountingScorer())
    kept = next((tmp_path / "work").glob("quality-4-*.json"))
    kept.write_text(kept.read_text()[:20])
    scorer = CountingScorer()
    run(tiny, tmp_path, scorer)
    assert scorer.calls == 1


def test_saving_and_loading_keep_everything(tiny, tmp_path):
    measured, _ = run(tiny, tmp_path, CountingScorer())
    written = save_measured(measured, tmp_path / "my.json")
    assert sorted(path.name for path in written) == ["my.csv", "my.json", "my.samples"]
    loaded = load_measured(tmp_path / "my.json")
    assert loaded.profile == measured.profile == load_profile(str(tmp_path / "my.json"))
    assert loaded.points("round_s") == measured.points("round_s") and loaded.points("calls") == measured.points("calls")
    assert all(np.array_equal(loaded.strips[steps], strip) for steps, strip in measured.strips.items())
    (tmp_path / "my.csv").unlink()
    with pytest.raises(UserError, match="its measured points cannot be read"):
        load_measured(tmp_path / "my.json")


def test_a_copied_quality_is_marked(tiny, tmp_path):
    published = load_profile("sd15-a100")
    measured, _ = run(tiny, tmp_path, quality_from=published)
    quality = measured.profile.quality
    assert quality.points == published.quality.points and not measured.strips
    assert quality.source.startswith("not measured here: the points of profile sd15-a100")
    assert "not measured here" in quality.assumption


def test_the_figure_shows_all_models_and_their_samples(tiny, tmp_path):
    heavy, _ = run(tiny, tmp_path, CountingScorer())
    light, _ = run(tiny, tmp_path / "light", CountingScorer(), role="light")
    bare, _ = run(tiny, tmp_path, quality_from=load_profile("sd15-a100"))
    panels = [axes for axes in draw_measurements([heavy, light, bare]).axes if axes.images]
    assert len(panels) == 2 * 3
    save_measurement_figure([bare], tmp_path / "my.png")
    assert (tmp_path / "my.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="cannot be written"):
        save_measurement_figure([bare], tmp_path / "nowhere" / "my.png")


def test_the_built_in_scorer_adds_distances_and_agreement(tiny, tmp_path, tiny_classifier):
    measured, _ = run(tiny, tmp_path, ClassifierScorer(tiny_classifier))
    assert len(measured.points("frechet_distance")) == len(measured.points("class_agreement")) == 3


def test_a_scorer_must_stay_between_0_and_1(tiny, tmp_path):
    class OutOfRangeScorer:
        def score(self, images, prompts):
            return Score(27.0, 0.1, len(images))

    with pytest.raises(UserError, match="returned 27; a quality must be between 0 and 1"):
        run(tiny, tmp_path, OutOfRangeScorer())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": (1, 2)}, "steps = .*at least 3 step counts"),
        ({"steps": (0, 1, 2)}, "steps = .*each at least 1"),
        ({"batches": (1, 4)}, "batches = .*at least 3 batch sizes"),
        ({"samples": 0}, "samples = 0"),
    ],
)
def test_invalid_plans(change, message):
    with pytest.raises(UserError, match=message):
        MeasurementPlan(PROMPTS, **change)


def test_fingerprints_depend_on_names_and_contents(tmp_path):
    for folder, text in (("one", "a"), ("same", "a"), ("other", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text(text)
    one, same, other = (fingerprint(tmp_path / folder) for folder in ("one", "same", "other"))
    assert one == same != other
    assert fingerprint(tmp_path / "one" / "weights") != fingerprint(tmp_path / "other" / "weights")


def test_names_are_converted_to_valid_profile_names():
    assert profile_name("My Model_v1.5") == "my-model-v1-5" and profile_name("...") == "measured"


def write_package(folder, number, energy_uj):
    path = folder / f"intel-rapl:{number}"
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")
    return path


def test_rapl_adds_packages_and_handles_wrapping_counters(tmp_path):
    for number in (0, 1):
        write_package(tmp_path, number, 900_000)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0, which already includes it
    meter = find_rapl_meter(tmp_path)
    assert isinstance(meter, RaplMeter) and "2 processor package(s)" in meter.source
    write_package(tmp_path, 0, 950_000)
    write_package(tmp_path, 1, 100_000)
    assert meter.joules() == pytest.approx(0.05 + 0.2)
    assert meter.joules() == pytest.approx(0.25)


def test_energy_is_measured_or_stated_or_reported_as_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("edgebrush.profiling.meters.find_zeus_meter", lambda device: None)
    assert find_meter("cpu", 5.0).assumption == "5 W while computing: stated, not measured"
    assert find_rapl_meter(tmp_path) is None
    monkeypatch.setattr("edgebrush.profiling.meters.find_rapl_meter", lambda: None)
    monkeypatch.setattr("edgebrush.profiling.meters.find_nvml_meter", lambda device: None)
    for device, counter in (("cpu", "RAPL"), ("cuda", "NVML")):
        with pytest.raises(UserError, match=f"watts: .*{counter}.*--watts"):
            find_meter(device, None)
