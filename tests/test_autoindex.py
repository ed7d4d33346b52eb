"""Pages that web servers make of folders."""

from __future__ import annotations

import contextlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from znfs.errors import NotListable
from znfs.stores.autoindex import entries
from znfs.stores.base import Entry
from znfs.tree import open_tree


def test_names_that_are_no_utf8() -> None:
    """They are named as keys are, so that what is listed is found, and take no other away."""
    page = (
        b'<title>Index of /f/</title><a href="a%FF/">a</a><a href="\xe9">b</a><a href="c">c</a>'
        b'<a href="%C3%A4">d</a><a href="/f\xff/x">elsewhere</a><a href="e%00f">NUL</a>'
    ).decode("utf-8", "surrogateescape")
    assert entries(page, "http://host/f/") == [
        Entry("a\udcff", True), Entry("\udce9", False), Entry("c", False), Entry("ä", False),
    ]
    below = b'<a href="../">..</a><a href="x">x</a><a href="/f%FF/y">y</a>'.decode()
    assert entries(below, "http://host/f%FF/") == [Entry("x", False), Entry("y", False)]


@pytest.mark.parametrize(
    "page",
    [
        '<html><head><title>Index of /f/</title></head><h1>Index of /f/</h1><pre><a href="../">'
        '../</a>\n<a href="a/">a/</a> 1-Jan-2025 00:00 -\n<a href="b">b</a></pre>',  # nginx
        '<title>Directory listing for /f/</title><h1>Directory listing for /f/</h1><ul>'
        '<li><a href="a/">a/</a></li><li><a href="b">b</a></li></ul>',  # Python
        '<h1>Our data</h1><table><a href="?C=N;O=D">Name</a><a href="/">Parent Directory</a>'
        '<a href="a/">a/</a><a href="b">b</a></table>',  # Apache, with a header of one's own
        '<title>f</title><h1><a href="../">/</a><a href="">f</a>/</h1><a href="..">Up</a>'
        '<a href="./a/">a</a><a href="./b">b</a>',  # Caddy
        '<title>/</title><a href="./a/">a</a><a href="./b">b</a>'
        '<footer>Served with <a rel="noopener" href="https://caddyserver.com">Caddy</a></footer>',
        '<!doctype html>\n<meta name="viewport">\n<pre>\n<a href="a/">a/</a>\n<a href="b">b</a>\n'
        "</pre>",  # Go's library
        '<title>Files within f/</title><h1><i>Index of&nbsp;</i><a href="/">f/</a></h1>'
        '<a href="/f/a/">a/</a><a href="/f/b">b</a>',  # npx serve
        '<title>host - /f/</title><pre><A HREF="/f/a/">a</A><br><A HREF="/f/b">b</A></pre>',  # IIS
    ],
)
def test_listings(page: str) -> None:
    """Also where the URL has a query, as every request has then: it is in no link."""
    for query in ("", "?sv=1&sig=x"):
        found = entries(page, f"http://host/f/{query}")
        assert found == [Entry("a", True), Entry("b", False)], query


@pytest.mark.parametrize(
    "page",
    [
        '<a href="about.html">about</a>',
        '<title>Our data</title><a href="/">Home</a><a href="a/">a</a>',
        '<p>See the index of <a href="a/">a</a></p>',
        "", "<![<![", f"<title>Index of /f/</title>&#{'9' * 5000};",
    ],
)
def test_pages_that_are_no_listing(page: str) -> None:
    assert entries(page, "http://host/f/") is None


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_page_made_by_hand_hides_nothing(tmp_path: Path) -> None:
    array = {
        "zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "|u1", "order": "C",
        "compressor": None, "filters": None, "fill_value": 0,
    }  # fmt: skip
    (tmp_path / "s/a").mkdir(parents=True)
    (tmp_path / "s/.zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "s/index.html").write_text('<a href="about.html">about</a>')
    (tmp_path / "s/a/.zarray").write_text(json.dumps(array))
    (tmp_path / "s/a/0").write_bytes(b"1234")
    serve = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for below in ("", "s/"):
            url = f"http://127.0.0.1:{server.server_port}/{'' if below else 's'}"
            with contextlib.closing(open_tree(url)) as tree:
                with contextlib.suppress(NotListable):
                    list(tree.resolve(below.rstrip("/")).names())
                file = tree.resolve(f"{below}a/a.npy")
                assert file.read(file.size - 4, 4) == b"1234"
        server.shutdown()
