import base64
import io
import re

import browser
import pytest
from images import draw
from PIL import Image

from ktransfer.audit.findings import Audit, Finding, Item
from ktransfer.audit.html_page import page


def audit_of(*findings, kind="file"):
    return Audit(kind, {"train": {"a": 20, "<b>": 20}}, findings)


def test_a_page_holds_its_thumbnails_and_loads_nothing(tmp_path):
    path = draw(tmp_path / "wide.png", size=(400, 100))
    found = Finding("outlier", (Item("train", "a", path, "a/wide.png"),), "far")
    html = page(audit_of(found), title="flowers")
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (120, 120)
    assert "http" not in html.replace("http-equiv", "")
    assert "default-src 'none'" in html
    assert "a/wide.png" in html


def test_names_of_files_and_classes_texts_and_details_are_escaped():
    evil = '<script>"&'
    item = Item("train", evil, evil, evil)
    html = page(audit_of(Finding("suspect_label", (item,), evil), kind="text"), title=evil)
    assert "<script" not in html
    assert "<b>" not in html
    assert html.count("&lt;script&gt;&quot;&amp;") == 6


def test_a_file_that_cannot_be_read_is_named_without_a_picture(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    item = Item("train", "a", str(tmp_path / "x.png"), "a/x.png")
    html = page(audit_of(Finding("unreadable", (item,), "empty file")), title="flowers")
    assert "empty file" in html
    assert "<img" not in html


def test_of_many_findings_the_worst_are_shown_and_the_rest_is_counted():
    found = [Finding("suspect_label", (Item("train", "a", f"text{n}", "k"),), "", n) for n in range(100)]
    html = page(audit_of(*found, kind="text"), title="texts")
    assert "text39<" in html
    assert "text40<" not in html
    assert "and 60 more" in html


@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_shows_the_page_as_text_and_has_nothing_to_complain_of(tmp_path, width):
    path, evil = draw(tmp_path / "wide.png", size=(400, 100)), "<script>alert(1)</script>" * 9
    findings = [Finding("outlier", (Item("train", evil, path, evil),) * 3, evil)]
    (tmp_path / "audit.html").write_text(page(audit_of(*findings), title=evil), encoding="utf-8")
    with browser.chromium(tmp_path / "profile") as chromium:
        browser.show(chromium, tmp_path / "audit.html", width=width)
        assert browser.complaints(chromium) == []
        assert browser.requests(chromium) == [(tmp_path / "audit.html").as_uri()]
        assert chromium.find_element("tag name", "body").text.count(evil) == 8
        assert browser.broken_images(chromium) == browser.without_alt(chromium) == 0
        assert browser.overflow(chromium) <= 0
