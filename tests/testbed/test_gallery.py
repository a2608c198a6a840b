"""The gallery page: all images of a policy are there, but most are folded away."""

from types import SimpleNamespace

from edgebrush.scenario.load import load_scenario
from edgebrush.testbed.gallery import SHOWN, GalleryImage, GallerySection, write_gallery


def test_most_images_of_a_policy_are_folded_away(tmp_path):
    image = GalleryImage("iVBOR", "ankle-boot", "large", 1, 2, 0.2, 0.1, 3, "waiting")
    failed = GalleryImage("", "dress", "own device", 0, 0, 0.2, 0.0, 1, "idle")
    sections = [GallerySection("a-rule", [image] * SHOWN + [failed]), GallerySection("another", [image] * 2)]
    write_gallery(SimpleNamespace(scenario=load_scenario("testbed")), sections, tmp_path)
    page = (tmp_path / "gallery.html").read_text()
    shown, folded = page.split("<details>")
    assert shown.count("<figure") == SHOWN and "the other 1 of a-rule" in folded
    assert folded.count("<figure") == 3 and "no image" in folded and "UE 3, waiting" in shown
    assert "a-rule: 24 images" in page and "another: 2 images" in page
