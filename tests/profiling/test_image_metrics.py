"""CLIPScore and Fréchet distances of images: equal to their definitions, on tiny networks with random weights."""

import numpy as np
import pytest
from PIL import Image

from edgebrush.diffusion.backend import Prompt
from edgebrush.errors import UserError
from edgebrush.profiling.image_files import coarsen, read_images
from edgebrush.profiling.quality import Gaussian, frechet_distance

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("torchmetrics")

pytestmark = pytest.mark.diffusers

from edgebrush.profiling.clip import Clip, ClipScorer  # noqa: E402
from edgebrush.profiling.fid import FidScorer, Inception, fid  # noqa: E402
from tests.support.pipelines import TinyInception, save_clip  # noqa: E402

RNG = np.random.default_rng(5)


class WithoutFeatures(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return Clip(save_clip(tmp_path_factory.mktemp("clip") / "tiny-clip"), "cpu")


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception.pt"
    torch.jit.script(TinyInception()).save(str(path))
    return Inception(path, "cpu")


def pictures(count, noise=30.0, side=24):
    """Colour gradients, each with its own corners, with noise."""
    corners = RNG.uniform(0, 255, (count, 2, 2, 3))
    across = np.linspace(0, 1, side)[:, None]
    rows = corners[:, 0, None] * (1 - across[:, :, None]) + corners[:, 1, None] * across[:, :, None]
    images = rows[:, :, :1] * (1 - across) + rows[:, :, 1:] * across
    return list(np.clip(images + noise * RNG.standard_normal(images.shape), 0, 255).astype(np.uint8))


def test_clip_score_is_the_mean_cosine_and_quality_is_clip_s(clip):
    images, texts = pictures(40), ["a b", "c d e", "f", "g h a"] * 10
    score = ClipScorer(clip).score(images, [Prompt(text) for text in texts])
    words = clip.processor(text=texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        text = clip.get_text_features(words["input_ids"], words["attention_mask"]).double().numpy()
    image = clip.features(images)
    cosines = (image * text).sum(axis=1) / np.linalg.norm(image, axis=1) / np.linalg.norm(text, axis=1)
    assert cosines.mean() > 0.01
    value, error = score.parts["clip_score"]
    assert value == pytest.approx(100 * cosines.mean(), rel=1e-4)
    assert error == pytest.approx(100 * cosines.reshape(10, 4).mean(axis=1).std(ddof=1) / 10**0.5, rel=1e-3)
    assert score.value == pytest.approx(2.5 * cosines.mean(), rel=1e-4)
    assert score.standard_error == pytest.approx(0.025 * error) and score.n == 40


def test_clip_reads_the_beginning_of_a_long_prompt(clip):
    long = "a b c d " * 20
    assert len(clip.processor.tokenizer(clip.shortened(long))["input_ids"]) == 16
    assert clip.shortened(long).startswith("a b c d") and clip.shortened("a b") == "a b"
    ClipScorer(clip).score(pictures(20), [Prompt(long)] * 20)


def test_grey_images_are_scored(clip):
    images = [image[:, :, 0] for image in pictures(20)]
    assert clip.features(images) == pytest.approx(clip.features([np.stack([image] * 3, axis=2) for image in images]))


def test_the_distance_is_torchmetrics_fid(inception):
    real, generated = (inception.features(pictures(50, noise)) for noise in (30.0, 90.0))
    expected = frechet_distance(Gaussian.of(real), Gaussian.of(generated))
    assert fid(real, generated) == pytest.approx(expected, rel=1e-5) and expected > 0.01


@pytest.mark.parametrize("network", ["clip", "inception"])
def test_quality_is_one_for_the_real_images_a_half_for_coarse_ones_and_less_for_noise(network, request):
    real = pictures(60)
    scorer = FidScorer(request.getfixturevalue(network), real, "distance")
    prompts = [Prompt("a")] * 60
    same, coarse, noise = (
        scorer.score(images, prompts)
        for images in (real, [coarsen(image, 8) for image in real], pictures(60, noise=200.0))
    )
    assert same.value == pytest.approx(1.0, abs=1e-3)
    assert coarse.value == pytest.approx(0.5, abs=1e-6)
    assert noise.value < same.value
    if network == "inception":  # random weights see little
        assert noise.value < 0.7 < scorer.score(pictures(60), prompts).value
    value, error = noise.parts["distance"]
    assert 0 < error < value and 0 < noise.standard_error < 0.2


def test_the_standard_error_is_that_of_repeated_draws(inception):
    scorer = FidScorer(inception, pictures(200), "fid")
    scores = [scorer.score(pictures(100, noise=60.0), [Prompt("a")] * 100) for _ in range(20)]
    drawn = np.array([(score.value, score.standard_error) for score in scores])
    assert drawn[:, 1].mean() == pytest.approx(drawn[:, 0].std(ddof=1), rel=0.6)


def test_too_few_images(clip, inception):
    with pytest.raises(UserError, match="samples = 19 images: too few"):
        ClipScorer(clip).score(pictures(19), [Prompt("a")] * 19)
    with pytest.raises(UserError, match="reference = 5 images: too few for a standard error; use at least 20"):
        FidScorer(inception, pictures(5), "fid")
    with pytest.raises(UserError, match="samples = 3 images: too few"):
        FidScorer(inception, pictures(20), "fid").score(pictures(3), [Prompt("a")] * 3)


def test_reference_images_without_detail(inception):
    flat = [np.full((24, 24, 3), grey, np.uint8) for grey in range(100, 120)]
    with pytest.raises(UserError, match="reference: the images have no detail"):
        FidScorer(inception, flat, "fid")


def test_networks_that_cannot_be_loaded(tmp_path):
    with pytest.raises(UserError, match=r"clip = .*nowhere': not a folder with a CLIP model: it has no config.json"):
        Clip(tmp_path / "nowhere", "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"clip = .*: CLIP cannot be loaded"):
        Clip(tmp_path, "cpu")
    (tmp_path / "text.pt").write_text("weights")
    torch.jit.script(WithoutFeatures()).save(str(tmp_path / "other.pt"))
    for name in ("nowhere.pt", "text.pt", "other.pt"):
        with pytest.raises(UserError, match=f"inception = .*{name}': not a TorchScript network"):
            Inception(tmp_path / name, "cpu")


def test_reference_images_are_cropped_and_resized(tmp_path):
    (tmp_path / "more").mkdir()
    Image.new("L", (10, 30), 100).save(tmp_path / "a.png")
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(tmp_path / "more" / "b.JPG")
    (tmp_path / "readme.txt").write_text("no image")
    grey, middle = read_images(tmp_path, (16, 16))
    assert grey.shape == middle.shape == (16, 16, 3) and np.all(grey == 100)
    assert middle.mean() > 150
    (tmp_path / "c.webp").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"reference: .*c.webp cannot be read as an image"):
        read_images(tmp_path, (16, 16))
    with pytest.raises(UserError, match=r"reference = .*nowhere': no such folder"):
        read_images(tmp_path / "nowhere", (16, 16))
