"""The names on a web server's page for a folder: nginx, Apache, lighttpd, Python, …"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from znfs.stores.base import Entry

_TITLE = re.compile(r"index of|directory listing|directory:", re.IGNORECASE)


class _Links(HTMLParser):
    """The targets of a page's links, and the text of its title and headings."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.title = ""
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag in ("title", "h1", "h2")
        if tag == "a" and (target := dict(attrs).get("href")):
            self.targets.append(target)

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def entries(page: str, url: str) -> list[Entry] | None:
    """The names directly below `url` (which ends with `/`) that its page links to.

    None if the page is no listing: it has no such link, and no title that says it is one.
    """
    links = _Links()
    links.feed(page)
    here = urlsplit(url)
    found: dict[str, Entry] = {}
    for target in links.targets:
        try:
            there = urlsplit(urljoin(url, target))
        except ValueError:  # a link that is no URL
            continue
        # Links with a query sort the table or log out.
        if there.netloc != here.netloc or there.query != here.query or there.fragment:
            continue
        path, folder = (unquote(part.path, errors="surrogateescape") for part in (there, here))
        rest = path[len(folder):] if path.startswith(folder) else ""
        name = rest.removesuffix("/")
        if name and not {"/", "\0"} & set(name) and name not in (".", ".."):
            found[rest] = Entry(name, rest.endswith("/"))
    if not found and not _TITLE.search(links.title):
        return None
    return list(found.values())
