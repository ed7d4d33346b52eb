"""Certificate authorities: whom every network client here trusts."""

from __future__ import annotations

import os

from znfs.errors import UsageError

# A private CA, in the variables that the AWS tools, OpenSSL, requests and curl read.
_CA_VARIABLES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def ca_file() -> str | None:
    """The PEM file of further certificate authorities, or None."""
    return next((path for name in _CA_VARIABLES if (path := os.environ.get(name))), None)


def ca_pem() -> bytes | None:
    """Its content. Raises UsageError where it cannot be read."""
    path = ca_file()
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} (certificate authorities): {error.strerror}") from error
