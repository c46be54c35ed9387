"""Configuration: one frozen value, parsed once from `clinic.toml` in the data folder.

Rules kept here:

* Unknown keys, wrong types and missing files are refused; there is no silent default for a misspelt setting.
* Secrets are never in the configuration, only where they come from.
* Every path inside the data folder is named here and nowhere else.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinic.errors import ConfigError

_REPOSITORY = Path(__file__).resolve().parent.parent


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeySource(StrEnum):
    """Where the clinic key comes from at start."""

    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a source, not a secret
    CREDENTIAL = "credential"  # systemd: $CREDENTIALS_DIRECTORY/clinic-key
    INSECURE_KEY_FILE = "insecure-key-file"  # development and demonstration only: the key lies beside the data


class WebConfig(_Section):
    """The web form.  `hostnames` go into the certificate beside localhost and the machine's name."""

    host: str = "0.0.0.0"  # noqa: S104 - the form is for the clinic's LAN
    port: Annotated[int, Field(ge=1, le=65535)] = 8443
    hostnames: tuple[str, ...] = ()
    idle_minutes: Annotated[int, Field(ge=1, le=240)] = 15
    max_upload_mb: Annotated[int, Field(ge=1, le=2048)] = 512


class SpeechConfig(_Section):
    """Speech recognition.  `model` is `embedded` or a folder with a faster-whisper model.

    With `live_text`, a recording is heard in passing while it runs, for the page only.
    With `drug_names`, what sounds like one is heard a second time; `formulary` is a file with further names.
    """

    model: str = "embedded"
    language: str | None = None
    threads: Annotated[int, Field(ge=0, le=64)] = 0  # 0: cores minus one, at least one
    speakers: bool = True
    max_duration_s: Annotated[int, Field(ge=10)] = 2 * 3600
    drug_names: bool = True
    live_text: bool = True
    formulary: Path | None = None


class GenerationConfig(_Section):
    """Generation.  `profile` names a file in `deploy/profiles/`, or is a path to one.

    With `socket` set the model server is somebody else's (its own systemd unit, Ollama, ...) and is not started here.
    """

    profile: str = "embedded"
    socket: Path | None = None
    timeout_s: Annotated[int, Field(ge=5)] = 600


class PolicyConfig(_Section):
    """Where policy sets come from: the one that is active lies, signed, in the data folder (`policies_dir`).

    `directory` and `profile` are what the first start activates, and what `clinic policy activate` takes by default.
    """

    directory: Path = _REPOSITORY / "policies"
    profile: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "strict"


class BackupConfig(_Section):
    """Backups.  Without `destination` none is made by itself.  `recipients` are further age keys, kept offline."""

    destination: Path | None = None
    every_hours: Annotated[int, Field(ge=1, le=24 * 31)] = 24
    keep: Annotated[int, Field(ge=1, le=1000)] = 14
    drill_days: Annotated[int, Field(ge=1, le=366)] = 30
    recipients: tuple[str, ...] = ()


class AuditConfig(_Section):
    """The audit log: disk reserve, what clock and lock are forgiven, a second copy, and when checkpoints are kept."""

    reserve_mb: Annotated[int, Field(ge=0, le=65536)] = 64
    clock_limit_s: Annotated[int, Field(ge=0, le=86400)] = 300
    lock_limit_s: Annotated[int, Field(ge=0, le=3600)] = 15
    second_sink: Path | None = None
    second_sink_mode: Literal["required", "optional"] = "optional"
    checkpoint_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    checkpoint_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15


class Config(_Section):
    """The whole configuration of one data folder."""

    home: Path
    key_source: KeySource = KeySource.PASSPHRASE
    models: Path | None = None  # where assembled weights lie; default: inside the data folder
    web: WebConfig = WebConfig()
    speech: SpeechConfig = SpeechConfig()
    generation: GenerationConfig = GenerationConfig()
    policy: PolicyConfig = PolicyConfig()
    backup: BackupConfig = BackupConfig()
    audit: AuditConfig = AuditConfig()

    @property
    def database(self) -> Path:
        """Records and audit log."""
        return self.home / "clinic.db"

    @property
    def jobs_database(self) -> Path:
        """The job store: ids and enum values only."""
        return self.home / "jobs.db"

    @property
    def keys_file(self) -> Path:
        """The sealed keyring with its unlock slots."""
        return self.home / "keys.json"

    @property
    def insecure_key_file(self) -> Path:
        """The development key (only with `key_source = "insecure-key-file"`)."""
        return self.home / "INSECURE-development.key"

    @property
    def tls_dir(self) -> Path:
        """Local CA and server certificate."""
        return self.home / "tls"

    @property
    def policies_dir(self) -> Path:
        """The policy sets that were activated, each sealed against change."""
        return self.home / "policies"

    @property
    def run_dir(self) -> Path:
        """Unix sockets (mode 0700)."""
        return self.home / "run"

    @property
    def logs_dir(self) -> Path:
        """Logs of the child processes (mode 0700)."""
        return self.home / "logs"

    @property
    def backup_dir(self) -> Path:
        """What backups need on the box: lock, state, scratch (mode 0700).  The backups themselves lie elsewhere."""
        return self.home / "backup"

    @property
    def metrics_token_file(self) -> Path:
        """The token for `/metrics` (mode 0600); without it there is no such page."""
        return self.home / "metrics.token"

    @property
    def models_dir(self) -> Path:
        """Assembled model weights."""
        return self.models or self.home / "models"

    @property
    def model_socket(self) -> Path:
        """The model server's Unix socket."""
        return self.generation.socket or self.run_dir / "model.sock"

    @property
    def profiles_dir(self) -> Path:
        """The model profiles that ship with the project."""
        return _REPOSITORY / "deploy" / "profiles"

    @property
    def migrations_dir(self) -> Path:
        """Alembic's scripts."""
        return _REPOSITORY / "migrations"

    @classmethod
    def load(cls, home: Path) -> Config:
        """Read `home/clinic.toml`.

        Raises:
            ConfigError: `home_missing` if there is no data folder, `config_invalid` naming the offending key otherwise.
        """
        path = home / "clinic.toml"
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"no data folder at `{home}`",
                code="home_missing",
                hint="create one with `clinic init`, or name it with --home or CLINIC_HOME",
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigError(f"cannot read `{path}`: {exc}", hint="mend the file; it is TOML") from exc
        try:
            return cls(home=home.resolve(), **data)
        except (ValidationError, TypeError) as exc:
            raise ConfigError(
                f"`{path}` is not valid: {_first_problem(exc)}", hint="see docs/configuration.md"
            ) from None  # pydantic's own words repeat what stands in the file


def _first_problem(exc: ValidationError | TypeError) -> str:
    if isinstance(exc, TypeError):  # `home = ...` inside the file
        return "key `home` is not allowed here"
    problem = exc.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"key `{where}`: {problem['msg'].lower()}"
