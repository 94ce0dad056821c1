"""Which keys an agent starts with: those it was configured with, or those it was given since.

An operation on the keyring (install, use, remove) is remembered in the data directory, so that a restart
neither forgets a new key nor brings a retired one back. Configuring other keys than before starts afresh
from the configuration, without those that were removed: a mounted Secret may be older than the last removal.
They count again once they are installed, or where nothing else is configured.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Final

import msgspec

from gossipswarm_agent.runtime.config import AgentConfig, ConfigError
from gossipswarm_agent.runtime.journal_format import replace_file
from gossipswarm_agent.runtime.keyring import Keyring, KeyringError, key_id

_KEYRING: Final = "keyring"
_CONFIGURED: Final = "keyring.configured"
_RETIRED: Final = "keyring.retired"
RETIRED_LIMIT: Final = 64
"""Ids of removed keys that are remembered; the oldest are forgotten first."""


class KeyStore:
    """An agent's keyring and where it is remembered."""

    def __init__(self, config: AgentConfig) -> None:
        """Raises ConfigError for keys that are none."""
        self._directory: Path | None = config.data_dir
        self._configured = [key_id(key).hex() for key in _checked(config.keys)]
        self._retired: list[str] = []
        """Ids of keys removed here, latest last."""
        remembered = None
        if config.keys and self._directory is not None:
            self._retired = self._noted(self._directory / _RETIRED) or []
            remembered = self._remembered(self._directory)
        self.keyring = remembered or Keyring(config.swarm, self._sound(config.keys or []))
        if self.keyring.swarm_uid != config.swarm:
            raise ConfigError(
                f"{self._directory} holds the keys of swarm {self.keyring.swarm_uid!r}, not of "
                f"{config.swarm!r}; give each swarm a directory of its own"
            )

    def _remembered(self, directory: Path) -> Keyring | None:
        if self._noted(directory / _CONFIGURED) != self._configured:
            return None
        try:
            return Keyring.load(directory / _KEYRING)
        except FileNotFoundError:
            return None
        except (OSError, KeyringError) as error:
            raise self._unreadable(error) from error

    def _noted(self, path: Path) -> list[str] | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[str])
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"cannot read the keys remembered in {self._directory}: {error}; remove the file "
            "to go on with the configured keys"
        )

    def _sound(self, configured: list[bytes]) -> list[bytes]:
        """The configured keys without retired ones, unless that leaves none."""
        return [key for key in configured if key_id(key).hex() not in self._retired] or configured

    def ids(self) -> list[str]:
        """Ids of all keys in hex, the one that seals first."""
        return [name.hex() for name in self.keyring.ids()]

    def install(self, key: str) -> str:
        """Accept frames under a key (32 bytes in base64) as well; its id. Raises KeyringError."""
        try:
            raw = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise KeyringError("a key is 32 bytes in base64") from None
        name = self.keyring.install(raw).hex()
        self._retired = [retired for retired in self._retired if retired != name]
        self._remember()
        return name

    def use(self, name: str) -> None:
        """Seal under an installed key from now on. Raises KeyringError."""
        self.keyring.use(_parse(name))
        self._remember()

    def remove(self, name: str) -> None:
        """Refuse frames under a key from now on. Raises KeyringError."""
        removed = _parse(name)
        self.keyring.remove(removed)
        others = [retired for retired in self._retired if retired != removed.hex()]
        self._retired = [*others, removed.hex()][-RETIRED_LIMIT:]
        self._remember()

    def _remember(self) -> None:
        if self._directory is None:
            return
        # What was removed comes first: should the process die on the way, it is not forgotten.
        self._note(_RETIRED, self._retired)
        self.keyring.save(self._directory / _KEYRING)
        self._note(_CONFIGURED, self._configured)

    def _note(self, name: str, ids: list[str]) -> None:
        assert self._directory is not None
        replace_file(self._directory / name, msgspec.json.encode(ids), mode=0o600)


def _checked(keys: list[bytes] | None) -> list[bytes]:
    try:
        for key in keys or []:
            key_id(key)
    except KeyringError as error:
        raise ConfigError(f"keys: {error}") from error
    return keys or []


def _parse(name: str) -> bytes:
    try:
        return bytes.fromhex(name)
    except ValueError:
        raise KeyringError(f"{name!r} is not a key id, which is 8 hexadecimal digits") from None
