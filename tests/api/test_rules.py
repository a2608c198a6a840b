"""What stations and agents make of a request's fields alike."""

import pytest

from edgebrush.api.errors import ApiError
from edgebrush.api.rules import check_request, ignored_fields, image_seeds
from edgebrush.api.schema import MAX_SEED, ImageRequest

SIZES = ["28x28"]


def ignored(**fields):
    return ignored_fields(ImageRequest(prompt="x", **fields), "light", SIZES)


@pytest.mark.parametrize("model", [None, "light", "gpt-image-2.5-flare", "chatgpt-image-latest", "dall-e-3"])
@pytest.mark.parametrize("size", [None, "auto", "28x28", "1024x1024", "1792x1024"])
def test_the_servers_own_values_and_openais_are_accepted(model, size):
    check_request(ImageRequest(prompt="x", model=model, size=size), "light", SIZES)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "heavy"}, 404, "model"),
        ({"model": "dall-e-3\nx"}, 404, "model"),
        ({"size": "28x29"}, 400, "size"),
        ({"size": ""}, 400, "size"),
        ({"stream": True, "n": 2}, 400, "n"),
        ({"stream": True, "response_format": "url"}, 400, "response_format"),
    ],
)
def test_what_no_image_can_be_made_for_is_refused(fields, status, param):
    with pytest.raises(ApiError) as caught:
        check_request(ImageRequest(prompt="x", **fields), "light", SIZES)
    assert caught.value.status == status and caught.value.detail.param == param


def test_fields_without_effect_are_listed():
    given = {"quality": "hd", "style": "vivid", "moderation": "low", "complexity": "high", "user": "me"}
    assert ignored(**given, safety_identifier="me") == sorted([*given, "safety_identifier"])
    assert ignored(model="gpt-image-2", size="1024x1024", partial_images=2) == ["model", "partial_images", "size"]
    assert (
        ignored(output_compression=50) == ignored(output_format="png", output_compression=50) == ["output_compression"]
    )


def test_fields_with_an_effect_and_values_that_ask_for_nothing_are_not_listed():
    assert ignored(quality="auto", moderation="auto", background="opaque", user="", model="light", size="28x28") == []
    assert ignored(output_format="webp", output_compression=50, response_format="url", n=10, size="auto") == []
    assert ignored(stream=True, partial_images=2) == ignored(stream=False, partial_images=0) == []


def test_seeds_continue_at_0_after_the_largest():
    assert image_seeds(5, 3) == [5, 6, 7]
    assert image_seeds(MAX_SEED, 2) == [MAX_SEED, 0]
