"""The two hashes of a scenario: which changes each of them covers."""

import json

import pytest

from edgebrush.jobs.keys import contents_key
from edgebrush.profiles.catalogue import CATALOGUE, read_profile
from edgebrush.scenario.load import fields_hash, load_scenario
from edgebrush.scenario.presets import PRESETS


@pytest.fixture
def mine(tmp_path):
    """The preset pair with a profile in a file of its own."""
    (tmp_path / "my.json").write_text((CATALOGUE / "sdxl-a100.json").read_text())
    text = (PRESETS / "pair.yaml").read_text().replace("profile: sdxl-a100", "profile: my.json")
    (tmp_path / "mine.yaml").write_text(text)
    return load_scenario(tmp_path / "mine.yaml")


def test_a_profiles_content_counts_for_the_contents_key_alone(mine):
    fields, contents = fields_hash(mine), contents_key(mine)
    path = mine.directory / "my.json"
    profile = json.loads(path.read_text())
    profile["compute"]["decode_s"] *= 2
    path.write_text(json.dumps(profile))
    read_profile.cache_clear()
    assert fields_hash(mine) == fields and contents_key(mine) != contents


def test_a_field_counts_for_both(mine):
    other = mine.model_copy(update={"horizon_s": mine.horizon_s + 1})
    assert fields_hash(other) != fields_hash(mine) and contents_key(other) != contents_key(mine)


def test_the_title_does_not_count_for_the_fields_hash(mine):
    assert fields_hash(mine.model_copy(update={"title": "another"})) == fields_hash(mine)
