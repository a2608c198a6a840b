"""Atomic writes: a file appears complete or not at all."""

import csv

import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.files import atomic_write, check_writable, write_bytes, write_csv, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "kept.npz"
    with atomic_write(path) as unfinished:
        np.savez(unfinished, a=[1.0])  # NumPy appends .npz to names with another suffix
        assert not path.exists() and names(tmp_path) == [unfinished.name]
    assert names(tmp_path) == ["kept.npz"] and np.load(path)["a"] == [1.0]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    for failure in (KeyboardInterrupt, ValueError):
        with pytest.raises(failure), atomic_write(path) as unfinished:
            unfinished.write_text("ne")
            raise failure
    assert names(tmp_path) == ["kept.txt"] and path.read_text() == "old"


def test_an_unwritable_path_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "held").write_text("")
    for place, reason in (("nowhere/a", "No such file"), ("file/a", "Not a directory"), ("folder", "")):
        with pytest.raises(UserError, match=f"{place}: cannot be written: {reason}.*; choose another place"):
            write_bytes(tmp_path / place, b"a")
    assert names(tmp_path) == ["file", "folder"]


def test_an_error_without_an_errno_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: cannot be written: encoder error"), atomic_write(tmp_path / "a.png"):
        raise OSError("encoder error")


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "Fréchet\n")
    assert (tmp_path / "a.txt").read_bytes() == "Fréchet\n".encode()


def test_missing_columns_are_empty(tmp_path):
    write_csv(tmp_path / "a.csv", [{"update": 1, "cost": 0.5}, {"update": 2, "cost": 0.25, "note": "a, b"}])
    assert (tmp_path / "a.csv").read_text() == 'update,cost,note\n1,0.5,\n2,0.25,"a, b"\n'
    with open(tmp_path / "a.csv", newline="") as file:
        assert [row["note"] for row in csv.DictReader(file)] == ["", "a, b"]


def test_a_writable_folder_is_created_and_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run': cannot be written: Not a directory; choose another folder"):
        check_writable(tmp_path / "file" / "run")
