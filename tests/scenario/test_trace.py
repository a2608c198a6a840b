"""Request logs: reading them, and replaying them at a stated load."""

import zlib

import numpy as np
import pytest

from edgebrush.scenario.trace import read_trace, replay

ROWS = [
    ("2024-11-15 16:00:00", "G2", "4.0"),
    ("2024-11-15 15:00:00", "G1", "1"),
    ("2024-11-15 17:00:00", "G1", ""),
]


def write(path, rows=ROWS, encoding="utf-8"):
    lines = ["num_images_per_prompt,groupId,gmt_create", *(",".join(reversed(row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_read_in_order_of_time_whatever_the_columns_order(tmp_path, encoding):
    trace = read_trace(write(tmp_path / "trace.csv", encoding=encoding))
    assert trace.time_s.tolist() == [0.0, 3600.0, 7200.0]
    assert trace.user.tolist() == ["G1", "G2", "G1"]
    assert trace.images.tolist() == [1, 4, 1]


def test_times_do_not_depend_on_the_machine_s_clock_changes(tmp_path, monkeypatch):
    import time

    rows = [("2024-10-27 00:30:00", "G1", "1"), ("2024-10-27 04:30:00", "G1", "1")]
    monkeypatch.setenv("TZ", "Europe/Berlin")  # summer time ends between the two
    time.tzset()
    try:
        assert read_trace(write(tmp_path / "trace.csv", rows)).time_s[-1] == 4 * 3600.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_replay_has_the_stated_rate_keeps_proportions_and_users(tmp_path):
    """6 images over 2 hours, wanted at 0.5/s, take 12 s: the second request comes half way."""
    time_s, ue = replay(read_trace(write(tmp_path / "trace.csv")), ue_count=7, task_rate_hz=0.5)
    np.testing.assert_allclose(time_s, [0, 6, 6, 6, 6, 12])
    first, second = zlib.crc32(b"G1") % 7, zlib.crc32(b"G2") % 7
    assert first != second
    assert ue.tolist() == [first, second, second, second, second, first]
