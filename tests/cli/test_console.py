"""Progress of long work where nobody watches: a log."""

import re

from edgebrush.cli.console import progress_bars


def test_a_log_gets_a_line_at_every_tenth(capsys):
    with progress_bars() as progress:
        for share in range(101):
            progress("training", share / 100, f"[seed {share}]")
        progress("playing", 0.0, "")
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    printed = [line.split(maxsplit=1)[1] for line in lines]
    assert printed == [*(f"training {share}% [seed {share}]" for share in range(0, 101, 10)), "playing 0%"]
