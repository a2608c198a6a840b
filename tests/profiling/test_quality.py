"""Image scores: the distance equals scipy's and theory, its standard error that of repeated draws."""

import shutil

import numpy as np
import pytest
from scipy.linalg import sqrtm

from edgebrush.diffusion.backend import Prompt
from edgebrush.errors import UserError
from edgebrush.profiling.quality import (
    REFERENCE,
    ClassifierScorer,
    Gaussian,
    frechet_distance,
    jackknife,
    load_reference,
    load_scorer,
    quality_at,
    quality_error,
    shrink,
)
from tests.support.models import CLASSES, draw_images

RNG = np.random.default_rng(3)


def gaussian(width, rank):
    spread = RNG.standard_normal((width, rank))
    return Gaussian(RNG.standard_normal(width), spread @ spread.T)


def test_distance_equals_that_with_scipys_matrix_root():
    one, other = gaussian(8, 20), gaussian(8, 20)
    root = sqrtm(one.covariance @ other.covariance).real
    expected = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance + other.covariance - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)


def test_distance_is_symmetric_and_zero_to_itself_for_singular_covariances():
    one, other = gaussian(8, 3), gaussian(8, 5)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-6)


def test_distance_of_shifted_and_scaled_normals_is_known():
    """|m|^2 + d (s - 1)^2 for N(0, I) against N(m, s^2 I)."""
    one = Gaussian(np.zeros(4), np.eye(4))
    other = Gaussian(np.full(4, 2.0), 9.0 * np.eye(4))
    assert frechet_distance(one, other) == pytest.approx(4 * 4 + 4 * 2**2)


def test_jackknife_of_a_mean_is_its_standard_error():
    values = RNG.standard_normal((4000, 1))
    errors = [jackknife(lambda of: float(of.mean()), values[at : at + 400]) for at in range(0, 4000, 400)]
    assert np.mean(errors) == pytest.approx(1 / 400**0.5, rel=0.3)


def test_the_standard_error_is_that_of_repeated_draws(tiny_classifier):
    scorer = ClassifierScorer(tiny_classifier)
    scores = []
    for seed in range(20):
        drawn = draw_images(100 + seed, 120)
        images = [np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8) for image in drawn.images]
        scores.append(scorer.score(images, [Prompt(CLASSES[label]) for label in drawn.labels]))
    distances = np.array([score.parts["frechet_distance"] for score in scores])
    assert distances[:, 1].mean() == pytest.approx(distances[:, 0].std(ddof=1), rel=0.5)
    values = np.array([(score.value, score.standard_error) for score in scores])
    assert values[:, 1].mean() == pytest.approx(values[:, 0].std(ddof=1), rel=0.5)


def test_quality_is_high_for_real_images_half_for_shrunk_ones_and_low_for_white(tiny_classifier):
    scorer = ClassifierScorer(tiny_classifier)
    real = draw_images(1, 600)
    prompts = [Prompt(CLASSES[label]) for label in real.labels]

    def quality(images):
        return scorer.score(list(images), prompts).value

    assert quality(shrink(real.images)) == pytest.approx(0.5, abs=1e-6)
    assert quality(real.images) > 0.8
    assert quality(np.full_like(real.images, 255)) < 0.2


def test_agreement_counts_the_requested_classes(tiny_classifier):
    real = draw_images(5, 90)
    prompts = [Prompt(CLASSES[(label + (n < 45)) % 3]) for n, label in enumerate(real.labels)]
    agreement, error = ClassifierScorer(tiny_classifier).score(list(real.images), prompts).parts["class_agreement"]
    assert agreement == 0.5 and error == pytest.approx((0.25 / 90) ** 0.5)


def test_the_reference_sets_the_scale(tiny_classifier):
    reference = load_reference(tiny_classifier)
    assert 0 < reference.floor < reference.half_distance
    half = reference.half_distance
    assert quality_at(0.0, half) == 1.0 and quality_at(half, half) == 0.5
    slope = (quality_at(2.0 + 1e-6, half) - quality_at(2.0, half)) / 1e-6
    assert quality_error(2.0, 0.1, half) == pytest.approx(-0.1 * slope, rel=1e-4)


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        ([np.zeros((28, 28), np.uint8)] * 19, "star", "samples = 19 images: too few"),
        ([np.zeros((32, 32, 3), np.uint8)] * 30, "star", "accepts 28x28 grey images; use your own with --scorer"),
        ([np.zeros((28, 28), np.uint8)] * 30, "cat", "class = 'cat': the classifier knows circle, square, star"),
    ],
)
def test_images_that_cannot_be_scored(tiny_classifier, images, text, message):
    with pytest.raises(UserError, match=message):
        ClassifierScorer(tiny_classifier).score(images, [Prompt(text)] * len(images))


def test_an_incomplete_or_missing_reference(tiny_classifier, tmp_path):
    folder = shutil.copytree(tiny_classifier, tmp_path / "classifier")
    (folder / REFERENCE).write_bytes((folder / REFERENCE).read_bytes()[:50])
    with pytest.raises(UserError, match=r"reference.safetensors: cannot be read"):
        ClassifierScorer(folder)
    (folder / REFERENCE).unlink()
    with pytest.raises(UserError, match=r"reference.safetensors: cannot be read"):
        ClassifierScorer(folder)


def test_a_users_scorer_is_loaded_by_name(monkeypatch, tmp_path):
    (tmp_path / "my_scorer.py").write_text("class Mine:\n    def score(self, images, prompts):\n        return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_scorer("my_scorer:Mine").score([], []) == 1


@pytest.mark.parametrize(
    "name", ["nonsense", "nonsense:Mine", "json:Mine", "json:loads", "collections:OrderedDict", ""]
)
def test_invalid_scorer_names(name):
    with pytest.raises(UserError, match=f"scorer = '{name}'"):
        load_scorer(name)
