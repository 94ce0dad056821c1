"""Which keys an agent starts with: those it was configured with, or those it was given since.

An operation on the keyring (install, use, remove) is remembered in the data directory, so that a restart
neither forgets a new key nor brings a retired one back. Configuring other keys than before starts afresh
from the configuration.
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


class KeyStore:
    """An agent's keyring and where it is remembered."""

    def __init__(self, config: AgentConfig) -> None:
        """Raises ConfigError for keys that are none."""
        self._directory: Path | None = config.data_dir
        self._configured = [key_id(key).hex() for key in _checked(config.keys)]
        remembered = self._remembered() if config.keys else None
        self.keyring = remembered or Keyring(config.swarm, config.keys or [])
        if self.keyring.swarm_uid != config.swarm:
            raise ConfigError(
                f"{self._directory} holds the keys of swarm {self.keyring.swarm_uid!r}, not of "
                f"{config.swarm!r}; give each swarm a directory of its own"
            )

    def _remembered(self) -> Keyring | None:
        if self._directory is None:
            return None
        try:
            noted = msgspec.json.decode(
                (self._directory / _CONFIGURED).read_bytes(), type=list[str]
            )
            return Keyring.load(self._directory / _KEYRING) if noted == self._configured else None
        except FileNotFoundError:
            return None
        except (OSError, KeyringError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"cannot read the keys remembered in {self._directory}: {error}; remove the file "
                "to go on with the configured keys"
            ) from error

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
        self._remember()
        return name

    def use(self, name: str) -> None:
        """Seal under an installed key from now on. Raises KeyringError."""
        self.keyring.use(_parse(name))
        self._remember()

    def remove(self, name: str) -> None:
        """Refuse frames under a key from now on. Raises KeyringError."""
        self.keyring.remove(_parse(name))
        self._remember()

    def _remember(self) -> None:
        if self._directory is None:
            return
        self.keyring.save(self._directory / _KEYRING)
        replace_file(
            self._directory / _CONFIGURED, msgspec.json.encode(self._configured), mode=0o600
        )


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
