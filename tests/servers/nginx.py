"""HTTP by nginx: servers of many tempers over one folder, each on its own port.

    with served(folder) as nginx:
        open_store(nginx.url("plain") + "/x.zarr", Options())

TEMPERS names them. `https` has a certificate of a private CA, whose file is `nginx.ca`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from tests.conftest import running
from tests.servers.process import find, free_ports, require, start, stop, wait_for_http

_FLAKY = "location / { if ($flaky) { return %s; } }"
# name -> what its `server` block holds. %(s3)s is the upstream's host:port.
TEMPERS = {
    "plain": "autoindex on;",
    "no-listing": "autoindex off;",
    "no-range": "autoindex on; max_ranges 0;",
    "no-head": "autoindex on; if ($request_method = HEAD) { return 405; }",
    "no-etag": "autoindex on; etag off;",
    "auth": "autoindex on; auth_basic x; auth_basic_user_file htpasswd;",
    "denied": "location / { return 403; }",
    "unavailable": "location / { return 503; }",
    "flaky-503": "autoindex on; " + _FLAKY % "503",
    "flaky-reset": "autoindex on; " + _FLAKY % "444",
    "retry-after": "autoindex on; error_page 503 @later; " + _FLAKY % "503" +
                   " location @later { add_header Retry-After 1 always; return 503; }",
    "rate-limited": "autoindex on; limit_req zone=five; limit_req_status 429;",
    "slow": "autoindex on; limit_rate 64k;",
    "elsewhere": "location ~ ^/(.*)/secret$ { return 302 /$1/denied/; } "
                 "location ~ /denied/$ { return 403; } "
                 "location ~ ^/(.*)/private$ { return 302 /$1/login/?next=$uri; } "
                 "location ~ /login/$ { return 200 '<html>Who are you?</html>'; } "
                 "location ~ ^/(.*)/moved$ { return 302 /$1/gone/; }",
    "redirect": "location / { return 302 http://127.0.0.1:%(plain)s$request_uri; }",
    "https": "autoindex on;",
}
# With `upstream`: an S3 server behind nginx.
S3_TEMPERS = {
    "s3-anonymous": 'location / { proxy_pass http://%(s3)s; proxy_http_version 1.1; '
                    'proxy_set_header Host $http_host; proxy_set_header Authorization ""; '
                    "limit_except GET { deny all; } }",
    "s3-slow-down": "location / { if ($flaky) { return 503 '<?xml version=\"1.0\"?><Error>"
                    "<Code>SlowDown</Code><Message>slow down</Message></Error>'; } "
                    "proxy_pass http://%(s3)s; proxy_http_version 1.1; "
                    "proxy_set_header Host $http_host; proxy_buffering off; }",
    "s3-https": "location / { proxy_pass http://%(s3)s; proxy_http_version 1.1; "
                "proxy_set_header Host $http_host; proxy_buffering off; }",
}
_TLS = "ssl_certificate cert.pem; ssl_certificate_key key.pem;"
_CONF = """\
worker_processes 1; daemon off; pid %(dir)s/pid; error_log %(dir)s/error.log warn; %(user)s
events { worker_connections 512; }
http {
  access_log off; sendfile on; tcp_nodelay on; etag on;
  default_type application/octet-stream; types { application/json json; text/html html; }
  client_body_temp_path %(dir)s/b; proxy_temp_path %(dir)s/p; fastcgi_temp_path %(dir)s/f;
  uwsgi_temp_path %(dir)s/u; scgi_temp_path %(dir)s/s;
  limit_req_zone $binary_remote_addr zone=five:1m rate=5r/s;
  map $request_id $flaky { "~^[0-3]" 1; default 0; }   # a quarter of the requests
  root "%(root)s";
%(servers)s
}
"""


class Nginx:
    """nginx over `root`, and over the S3 server at `upstream` (host:port) if that is given."""

    user, password = "user", "pass"

    def __init__(self, root: Path | str, upstream: str | None = None) -> None:
        require("nginx-light", "nginx")
        require("openssl", "openssl")
        self._root = Path(root).resolve()
        self._upstream = upstream
        self._tempers = TEMPERS | (S3_TEMPERS if upstream else {})
        self.ports = dict(zip(self._tempers, free_ports(len(self._tempers)), strict=True))
        self._dir = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> str:
        """The PEM file of the CA that signed the certificate of the https servers."""
        return str(self._dir / "ca.pem")

    def url(self, temper: str) -> str:
        scheme = "https" if temper.endswith("https") else "http"
        return f"{scheme}://127.0.0.1:{self.ports[temper]}"

    def __enter__(self) -> Self:
        self._dir = Path(tempfile.mkdtemp(prefix="znfs-nginx-"))
        try:
            self._dir.chmod(0o755)
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)
        shutil.rmtree(self._dir, ignore_errors=True)

    def _start(self) -> None:
        import os

        hashed = self._openssl("passwd", "-apr1", self.password).strip()
        (self._dir / "htpasswd").write_text(f"{self.user}:{hashed}\n")
        self._certify()
        servers = "\n".join(
            f"  server {{ listen 127.0.0.1:{self.ports[name]}{' ssl' if 'https' in name else ''}; "
            f"{_TLS if 'https' in name else ''} {block} }}"
            for name, block in self._tempers.items()
        )
        for mark, value in (("%(s3)s", self._upstream), ("%(plain)s", self.ports["plain"])):
            servers = servers.replace(mark, str(value))
        (self._dir / "nginx.conf").write_text(_CONF % {
            "dir": self._dir, "root": self._root, "servers": servers,
            # As root, nginx would serve as www-data, who may not read the tests' folders.
            "user": "user root;" if os.geteuid() == 0 else "",
        })
        self._process = start(
            ["nginx", "-p", f"{self._dir}/", "-c", f"{self._dir}/nginx.conf",
             "-e", f"{self._dir}/error.log"],
            self._dir / "out.log",
        )
        wait_for_http(self.url("plain"), self._process)

    def _certify(self) -> None:
        """A CA, and a certificate of it for 127.0.0.1 and localhost, as RFC 5280 has them: from
        Python 3.13 on others are refused."""
        at = str(self._dir)
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=test CA", "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign",
        )
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=127.0.0.1", "-keyout", f"{at}/key.pem", "-out", f"{at}/csr.pem",
        )
        (self._dir / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl(
            "x509", "-req", "-in", f"{at}/csr.pem", "-CA", f"{at}/ca.pem", "-CAkey",
            f"{at}/ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{at}/ext",
            "-out", f"{at}/cert.pem",
        )

    @staticmethod
    def _openssl(*arguments: str) -> str:
        done = subprocess.run(
            [find("openssl") or "openssl", *arguments], capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout


def served(root: Path | str, upstream: str | None = None) -> AbstractContextManager[Nginx]:
    """`Nginx`, running; where it cannot be had, the test is skipped and says why."""
    return running(lambda: Nginx(root, upstream))
