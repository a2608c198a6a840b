"""`edgebrush profile`: the files it writes; a user error is one line and leaves nothing behind."""

import pytest

from edgebrush.cli.main import run
from edgebrush.profiles.catalogue import load_profile
from tests.support.models import draw_images, write_classifier, write_model

QUICK = ["--steps", "1,2,4", "--samples", "30", "--batches", "1,4,16", "--watts", "15"]


@pytest.fixture(autouse=True)
def short_timings(monkeypatch):
    monkeypatch.setattr("edgebrush.profiling.measure.MIN_TIMING_S", 0.0)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The folder of a tiny model; a tiny classifier is the built-in scorer."""
    from edgebrush.profiling import quality

    classifier = write_classifier(tmp_path / "classifier")
    quality.write_reference(draw_images(1, 60), draw_images(2, 60), classifier)
    monkeypatch.setattr(quality, "CLASSIFIER", classifier)
    return str(write_model(tmp_path / "tiny"))


def test_it_writes_a_profile_that_can_be_loaded(tiny, tmp_path):
    out = tmp_path / "out"
    assert run(["profile", tiny, "--role", "light", *QUICK, "--out", str(out / "my.json")]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["my.csv", "my.json", "my.png", "my.samples"]
    assert sorted(path.name for path in (out / "my.samples").iterdir()) == [f"steps-00{k}.png" for k in (1, 2, 4)]
    profile = load_profile(str(out / "my.json"))
    assert (profile.name, profile.role) == ("my", "light")
    assert "the built-in classifier" in profile.quality.source
    assert (out / "my.csv").read_text().startswith("quantity,at,value,standard_error,n\nencode_s,,")


def test_two_models_share_a_figure(tiny, tmp_path):
    light, heavy = tmp_path / "light.json", tmp_path / "heavy.json"
    assert run(["profile", tiny, "--role", "light", *QUICK, "--out", str(light)]) == 0
    assert run(["profile", tiny, *QUICK, "--sampler", "multistep", "--beside", str(light), "--out", str(heavy)]) == 0
    assert "Multistep sampler" in load_profile(str(heavy)).quality.source
    assert (tmp_path / "heavy.png").stat().st_size > (tmp_path / "light.png").stat().st_size


@pytest.mark.diffusers
@pytest.mark.parametrize(("shape", "guidance"), [("tiny-sd15", 7.5), ("tiny-sdxl", 5.0), ("tiny-dit-xl", 4.0)])
def test_a_shape_with_random_weights_copies_its_quality(shape, guidance, tmp_path):
    pytest.importorskip("diffusers")
    out = tmp_path / "my.json"
    options = ["--quality-from", "sd15-a100", "--watts", "15"]
    assert run(["profile", "--shape", shape, *options, "--batches", "1,4,16", "--out", str(out)]) == 0
    profile = load_profile(str(out))
    assert profile.model == f"{shape} (random weights)" and profile.compute.guidance == guidance
    assert "not measured here" in profile.quality.assumption
    assert not out.with_suffix(".samples").exists() and out.with_suffix(".png").exists()


@pytest.mark.diffusers
def test_batches_that_the_gpu_cannot_hold_are_a_user_error(tmp_path, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    from edgebrush.diffusion.warm_up import WarmUp

    monkeypatch.setattr("edgebrush.diffusion.warm_up.warm_up", lambda backend, batch: WarmUp(6, 0, 1.0, 8.0))
    options = ["--quality-from", "sd15-a100", "--watts", "15", "--batches", "1,4,16"]
    assert run(["profile", "--shape", "tiny-sd15", *options, "--out", str(tmp_path / "my.json")]) == 2
    assert "batches = (1, 4, 16): the GPU's memory holds at most 6 images" in capsys.readouterr().err


@pytest.mark.diffusers
def test_shapes_have_the_published_models_sizes():
    """Parameters of SD 1.5's U-Net (860 M), SDXL's (2.6 G) and DiT-XL/2 (675 M), counted without allocating them."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    from edgebrush.diffusion.shapes import SHAPES

    counted = {}
    for name, kind in (
        ("sd15", "UNet2DConditionModel"),
        ("sdxl", "UNet2DConditionModel"),
        ("dit-xl", "DiTTransformer2DModel"),
    ):
        with torch.device("meta"):
            network = getattr(diffusers, kind)(**SHAPES[name].network)
        counted[name] = sum(weights.numel() for weights in network.parameters())
    assert counted["sd15"] == 859_520_964 and counted["sdxl"] == 2_567_463_684
    assert counted["dit-xl"] == pytest.approx(675e6, rel=0.15)  # diffusers embeds the class in every block


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "my.yaml"], "out = 'my.yaml': must end in .json"),
        (["--steps", "1,two"], "steps = '1,two': must be comma-separated whole numbers"),
        (["--steps", "1,2"], "steps = (1, 2): a curve needs at least 3 step counts"),
        (["--samples", "0"], "--samples"),
        (["--sampler", "ddim"], "sampler = 'ddim': tiny predicts velocity; choose one of euler, multistep"),
        (["--scorer", "nonsense:Mine"], "scorer = 'nonsense:Mine'"),
        (["--device", "cuda"], "device = 'cuda'"),
        (["--prompts", "nowhere.txt"], "prompts = 'nowhere.txt': cannot be read"),
        (["--beside", "nowhere.json"], "profile 'nowhere.json' not found"),
        (["--quality-from", "nonsense"], "profile 'nonsense' not found"),
        (
            ["--shape", "sd15"],
            "model: give one of MODEL (light, heavy, or a folder), --pipeline FOLDER and --shape NAME",
        ),
        (["--guidance", "3"], "guidance = 3: "),
        (["--quality", "clip-score"], "clip: missing; --quality clip-score needs --clip"),
        (
            ["--quality", "fid", "--reference", "."],
            "inception: missing; --quality fid needs --inception and --reference",
        ),
        (["--clip", "."], "clip: only of use with --quality clip-score or clip-fid; leave it out"),
        (["--quality", "fid", "--scorer", "mine:Mine"], "quality: --quality and --scorer are given; give one of them"),
    ],
)
def test_a_user_error_is_one_line_and_leaves_nothing_behind(tiny, tmp_path, monkeypatch, capsys, options, message):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(["profile", tiny, *QUICK, "--out", "my.json", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list((tmp_path / "here").iterdir())


def test_an_unknown_class_is_reported_before_anything_is_measured(tiny, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("star\ncat\n")
    out = tmp_path / "my.json"
    assert run(["profile", tiny, *QUICK, "--prompts", str(tmp_path / "prompts.txt"), "--out", str(out)]) == 2
    assert "class = 'cat': tiny knows circle, square, star" in capsys.readouterr().err
    assert not out.with_suffix(".work").exists()
