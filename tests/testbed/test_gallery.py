"""The gallery: images in parts that open and close, prompts in the text, and a phone's width."""

import base64
from types import SimpleNamespace

import numpy as np
import pytest

from edgebrush.scenario.load import load_scenario
from edgebrush.testbed import gallery, live
from edgebrush.testbed.gallery import PAGE_IMAGES, GalleryImage, GallerySection, write_gallery
from tests.support.browser import CHROMIUM, browser, open_on_phone
from tests.support.fakes import PNG

EPISODE = SimpleNamespace(scenario=load_scenario("testbed"))
COUNT = 4 * PAGE_IMAGES + 7


def make_image(prompt="sneaker", data=base64.b64encode(PNG).decode()):
    return GalleryImage(data, prompt, "large", 1, 4, 0.25, 0.05, ue=3, request="waiting")


@pytest.fixture
def sections():
    """Two policies, each with parts of images, the last of which is not full."""
    return [GallerySection(name, [make_image() for _ in range(COUNT)]) for name in ("first-rule", "second-rule")]


def write(sections, folder):
    write_gallery(EPISODE, sections, folder)
    return (folder / "gallery.html").read_text()


def test_images_are_in_parts_of_which_the_first_is_open(sections, tmp_path):
    page = write(sections, tmp_path)
    assert page.count("<details") == 10 and page.count("<details open>") == 1
    assert page.count("<img") == 2 * COUNT == page.count('loading="lazy"')
    assert f"<summary>1 to {PAGE_IMAGES} <span>of {COUNT}</span>" in page
    assert f"<summary>{COUNT - 6} to {COUNT} <span>of {COUNT}</span>" in page


def test_failed_tasks_are_counted_in_the_line_of_their_part(tmp_path):
    images = [make_image(), make_image(data=""), make_image(data="")]
    page = write([GallerySection("a-rule", images)], tmp_path)
    assert "a-rule: 1 images" in page and "<span>of 3, 2 failed</span>" in page and page.count("no image") == 2


def test_prompts_are_text_and_escaped(tmp_path):
    page = write([GallerySection("a-rule", [make_image("<script>shoe</script>")])], tmp_path)
    assert "<b>&lt;script&gt;shoe&lt;/script&gt;</b>" in page and "title=" not in page and "<script" not in page


def test_a_section_reads_the_journals(monkeypatch, tmp_path):
    task = SimpleNamespace(ue=0, number=0, prompt="coat", request=0)
    monkeypatch.setattr(gallery, "task_id", lambda task: "a")
    monkeypatch.setattr(
        gallery, "read_image", lambda folder, name: PNG if (folder.name, name) == ("ue-1", "a") else None
    )
    fields = [(name, float) for name in ("delay_s", "energy_ue_j", "energy_bs_j")]
    rows = np.array([(4, 1, 0.5, 0.1, 0.2)], [("steps", int), ("place", int), *fields])
    episode = SimpleNamespace(scenario=EPISODE.scenario, tasks=[task])
    (image,) = gallery.make_section("a-rule", episode, rows, tmp_path).images
    assert (image.prompt, image.place, image.ue, image.steps) == ("coat", "large", 1, 4) and image.data
    assert image.energy_j == pytest.approx(0.3)


@pytest.mark.process
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium")
def test_gallery_and_live_page_fit_a_phone(sections, tmp_path):
    sections[0].images[0] = make_image("a very long prompt about shoes " * 100 + "x" * 500)
    write(sections, tmp_path)
    with browser() as page:
        open_on_phone(page, (tmp_path / "gallery.html").as_uri())
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        assert page.value("document.documentElement.scrollHeight") < 4000
        open_on_phone(page, live.PAGE.as_uri())
        ues = [{"kind": "mid-range", "battery": 0.5, "tasks": [0, 1]}] * 6
        bss = [{"name": "large-station-with-a-long-name", "images": 3, "load": None}] * 2
        state = {"title": "x", "policy": "p", "elapsed_s": 1, "seconds": 9, "requested": 1, "total": 9, "images": 1}
        page.value(f"onState({state | {'errors': 0, 'delay_s': 0.5, 'ues': ues, 'bss': bss}})".replace("None", "null"))
        image = {"ue": 0, "place": 1, "name": "large", "steps": 4, "delay_s": 0.5, "energy_j": 0.25, "png": ""}
        page.value(f"for (let n = 0; n < 30; n++) onImage({image | {'prompt': 'sneaker ' * 50 + 'x' * 300}})")
        assert page.value("document.querySelectorAll('#images figure').length") == 30
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        caption = page.value("document.querySelector('#images figcaption').innerText")
        assert (
            "sneaker" in caption and "large, 4 steps" in caption and "0.50 s · 0.250 J" in caption and "UE 1" in caption
        )
        assert not page.value("document.querySelectorAll('[title]').length"), "touch cannot reach tooltips"
