"""Image files for download: names, limits, headers."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from edgebrush.api import files
from edgebrush.api.errors import add_error_handlers
from edgebrush.api.files import KEPT_S, FileStore, add_file_route


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return FileStore(clock)


def test_a_file_is_kept_for_an_hour(store, clock):
    name = store.add(b"image", "image/png")
    clock.now = KEPT_S - 1
    assert store.get(name).content == b"image"
    clock.now = KEPT_S
    assert store.get(name) is None and not store.files and store.bytes == 0


def test_number_and_bytes_are_bounded_and_the_oldest_go_first(store, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILES", 3)
    names = [store.add(b"x", "image/png") for _ in range(4)]
    assert [store.get(name) is None for name in names] == [True, False, False, False]
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    large = store.add(b"x" * 9, "image/png")
    assert store.get(large) and store.bytes == 10 and len(store.files) == 2


def test_names_cannot_be_guessed(store):
    names = {store.add(b"x", "image/webp") for _ in range(100)}
    assert len(names) == 100 and all(len(name.removesuffix(".webp")) == 32 for name in names)


def test_a_file_is_served_as_what_it_is_and_nothing_else(store):
    app = FastAPI()
    add_error_handlers(app)
    add_file_route(app, store)
    address = store.keeper("http://testserver/")(b"image", "image/jpeg")
    client = TestClient(app)
    response = client.get(address)
    assert address.startswith("http://testserver/files/") and address.endswith(".jpeg")
    assert response.content == b"image" and response.headers["content-type"] == "image/jpeg"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    missing = client.get("/files/x.png")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "file_not_found"
