"""Pages that web servers make of folders."""

from __future__ import annotations

from znfs.stores.autoindex import entries
from znfs.stores.base import Entry


def test_names_that_are_no_utf8() -> None:
    """They are named as keys are, so that what is listed is found, and take no other away."""
    page = (
        b'<title>Index of /f/</title><a href="a%FF/">a</a><a href="\xe9">b</a><a href="c">c</a>'
        b'<a href="%C3%A4">d</a><a href="/f\xff/x">elsewhere</a><a href="e%00f">NUL</a>'
    ).decode("utf-8", "surrogateescape")
    assert entries(page, "http://host/f/") == [
        Entry("a\udcff", True), Entry("\udce9", False), Entry("c", False), Entry("ä", False),
    ]
    below = b'<a href="x">x</a><a href="/f%FF/y">y</a>'.decode()
    assert entries(below, "http://host/f%FF/") == [Entry("x", False), Entry("y", False)]
