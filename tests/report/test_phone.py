"""The report on a phone: nothing is cut off, and what scrolls sideways says so."""

import pytest

from edgebrush.report.rendering import render
from tests.support.browser import CHROMIUM, browser, open_on_phone

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no Chromium")]
WIDE = "[...document.querySelectorAll('.scroll, figure a')].filter(e => e.scrollWidth > e.clientWidth)"
HINTS = "e => getComputedStyle(e.querySelector('figcaption') || e.querySelector('.scroll') || e, '::before').content"


def test_the_report_fits_a_phone(run, tmp_path):
    render(run, tmp_path)
    with browser() as page:
        open_on_phone(page, (tmp_path / "report.html").as_uri())
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        assert page.value(f"{WIDE}.length") >= 5, "figures and tables scroll by themselves"
        hints = page.value(f"{WIDE}.map(e => e.closest('figure') || e).map({HINTS})")
        assert all("wipe sideways" in hint for hint in hints)
        shadows = "getComputedStyle(document.querySelector('.scroll')).backgroundAttachment"
        assert page.value(shadows).startswith("local, local, scroll, scroll")
        page.resize(1280, 900)
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        assert page.value(f"{WIDE}.length") == 0, "a wide screen needs no scrolling"
