"""Files are there whole or not at all."""

import csv

import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.files import check_writable, whole, write_bytes, write_csv, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    path = tmp_path / "kept.npz"
    with whole(path) as unfinished:
        np.savez(unfinished, a=[1.0])  # which adds .npz to a name that ends otherwise
        assert not path.exists() and names(tmp_path) == [unfinished.name]
    assert names(tmp_path) == ["kept.npz"] and np.load(path)["a"] == [1.0]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    for failure in (KeyboardInterrupt, ValueError):
        with pytest.raises(failure), whole(path) as unfinished:
            unfinished.write_text("ne")
            raise failure
    assert names(tmp_path) == ["kept.txt"] and path.read_text() == "old"


def test_what_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "held").write_text("")
    for place, reason in (("nowhere/a", "No such file"), ("file/a", "Not a directory"), ("folder", "")):
        with pytest.raises(UserError, match=f"{place}: cannot be written: {reason}.*; choose another place"):
            write_bytes(tmp_path / place, b"a")
    assert names(tmp_path) == ["file", "folder"]


def test_an_error_without_a_number_is_told_too(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: cannot be written: encoder error"), whole(tmp_path / "a.png"):
        raise OSError("encoder error")


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "Fréchet\n")
    assert (tmp_path / "a.txt").read_bytes() == "Fréchet\n".encode()


def test_rows_that_lack_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [{"update": 1, "cost": 0.5}, {"update": 2, "cost": 0.25, "note": "a, b"}])
    assert (tmp_path / "a.csv").read_text() == 'update,cost,note\n1,0.5,\n2,0.25,"a, b"\n'
    with open(tmp_path / "a.csv", newline="") as file:
        assert [row["note"] for row in csv.DictReader(file)] == ["", "a, b"]


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run': cannot be written: Not a directory; choose another folder"):
        check_writable(tmp_path / "file" / "run")
