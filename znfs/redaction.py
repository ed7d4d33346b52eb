"""What is secret in text that people, logs and the mount table are shown."""

from __future__ import annotations

import re
from urllib.parse import unquote

# Here `@` in front of the path means something else than a user: a container, a revision.
AT_IS_NO_USER = frozenset(
    {
        "az", "abfs", "abfss", "adl", "wasb", "wasbs", "github", "git", "hf",
        "file", "local", "memory", "tar", "zip",
    }
)
_SECRET_WORD = re.compile(
    r"secret|passw|passphrase|token|credential|connection_string|authori[sz]ation|cookie|signature"
    r"|headers?$|(^|[_\-])(key|sas|sig|hmac|pwd|pw|pass|auth|jwt|bearer)($|[_\-])|key_?id|private"
    r"|(api|access|account|shared|auth)key|session_?id",
    re.IGNORECASE,
)
_FILE_OF_A_SECRET = re.compile(r"(file|filename|path)$", re.IGNORECASE)
# A URL's user info. A `/` in a password is against RFC 3986, and yet what keys of AWS have: what
# looks like a port and is no number is taken for the beginning of one.
_USER = re.compile(
    r"([A-Za-z][A-Za-z0-9+.\-]*)://"
    r"(?:[^/?#\s|]*@|[^/?#\s|@:\[\]]+:(?!:|\d*(?:[/?#\s|'\"]|$))(?:(?!::)[^?#\s|])*@)"
)
_PARAMETER = re.compile(r"([?&#])([^=&#\s]+)=([^&#\s|'\")]*)")


def redact(text: str) -> str:
    """`text` with every URL in it free of user info and signatures."""

    def without_user(found: re.Match[str]) -> str:
        return found[0] if found[1].lower() in AT_IS_NO_USER else f"{found[1]}://"

    def without_secret(found: re.Match[str]) -> str:
        secret = _SECRET_WORD.search(unquote(found[2]))
        return f"{found[1]}{found[2]}=***" if secret else found[0]

    return _PARAMETER.sub(without_secret, _USER.sub(without_user, text))


def is_secret(option: str) -> bool:
    """Whether a storage option of that name holds a secret, and not the path of a file with one."""
    return bool(_SECRET_WORD.search(option)) and not _FILE_OF_A_SECRET.search(option)
