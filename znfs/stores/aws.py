"""AWS's environment, files and profiles, read as botocore reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from znfs.errors import Denied, Unanswered, UsageError
from znfs.stores.calls import Threads

# How long credentials are trusted before the files, or whatever else issues them, are asked again.
# obstore asks five minutes before they expire.
_TRUSTED = timedelta(minutes=10)
_LEFT_TO_BOTOCORE = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION")
_AT_ONCE = 4  # looks for credentials, hung ones included


class Settings:
    """What AWS's configuration says of a profile; botocore is imported at the first question."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile

    def endpoint(self) -> str | None:
        """The S3 endpoint from the environment or the profile."""
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
            if value := os.environ.get(name):
                return value
        value = self._scoped().get("endpoint_url")
        return str(value) if value else None

    def region(self) -> str | None:
        """The region from the environment or the profile."""
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            if value := os.environ.get(name):
                return value
        value = self._scoped().get("region")
        return str(value) if value else None

    def _scoped(self) -> Mapping[str, Any]:
        if self._profile is None and not _has_files():
            return {}
        from botocore.exceptions import BotoCoreError, ProfileNotFound
        from botocore.session import Session

        try:
            found: Mapping[str, Any] = Session(profile=self._profile).get_scoped_config()
        except ProfileNotFound as error:
            raise UsageError(f"--profile: {error}") from error
        except BotoCoreError as error:  # a file that is not in its form
            raise UsageError(f"AWS: {error}") from error
        return found


def _has_files() -> bool:
    paths = (
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    )
    return any(os.path.exists(os.path.expanduser(path)) for path in paths)


def _in_environment() -> tuple[str, str, str | None] | None:
    """The environment's keys, which botocore takes first where no profile is named: importing it
    takes 0.13 s, for which the first reader would wait, and a session 10 ms after each refresh.
    None leaves it to botocore: what it would refuse, or see expire, too."""
    of = os.environ.get
    access, secret = of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")
    if not (access and secret) or any(map(of, _LEFT_TO_BOTOCORE)):
        return None
    return access, secret, of("AWS_SECURITY_TOKEN") or of("AWS_SESSION_TOKEN") or None


class Credentials:
    """A credential provider for obstore: static keys, or whatever botocore finds, found anew.

    Each call builds a session from scratch, so that rotated keys and files edited meanwhile are
    seen without a remount. Who issues credentials (a service, a program of the user's) is waited
    for `patience` seconds: a reader's deadline is not known in obstore's threads.
    """

    def __init__(self, profile: str | None, patience: float) -> None:
        self._profile = profile
        self._patience = patience
        self._aside = Threads(_AT_ONCE)
        self._given: tuple[str, str, str | None] | None = None

    def __call__(self) -> dict[str, Any]:
        access, secret, token = self._given = self.find()
        return {
            "access_key_id": access,
            "secret_access_key": secret,
            "token": token,
            "expires_at": datetime.now(UTC) + _TRUSTED,
        }

    def changed(self) -> bool:
        """Whether there are others by now than those given last, or none."""
        try:
            return self.find() != self._given
        except Denied:
            return True
        except Unanswered:
            return False

    def find(self) -> tuple[str, str, str | None]:
        """Key, secret and session token. Raises Denied, Unanswered."""
        return self._aside.run(self._find, self._patience, "AWS credentials")

    def _find(self) -> tuple[str, str, str | None]:
        if self._profile is None and (given := _in_environment()):
            return given
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            found = Session(profile=self._profile).get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise Denied(f"AWS credentials: {type(error).__name__}") from error
        if frozen is None or not frozen.access_key:
            raise Denied("no AWS credentials found; a public bucket needs --anon")
        return frozen.access_key, frozen.secret_key, frozen.token
