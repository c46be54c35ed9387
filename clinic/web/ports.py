"""What the web form needs from the rest of the system, and how a view gets at it.

Rules kept here:

* Views know these interfaces only, so they run against any wiring that has them.
* There is one `Services` value per application; `services()` is the only way a view reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from flask import current_app

from clinic.config import Config
from clinic.domain import Actor, EncounterId, Reason
from clinic.policy.activation import PolicyStore
from clinic.records.records import Records

_EXTENSION = "clinic"


class Jobs(Protocol):
    """The background jobs."""

    def enqueue(self, encounter_id: EncounterId, *, actor: Actor) -> object:
        """Start the job of an encounter that is marked as queued.

        Raises:
            JobError: when no worker can take it.
        """

    def positions(self) -> dict[EncounterId, int]:
        """Which encounters wait for their job, and which in turn each of them is (from 1).

        Raises:
            JobError: when that cannot be read.
        """

    def enqueue_upkeep(self, task: str, *, actor: Actor) -> object:
        """Start a backup or a drill; one that waits or runs is not doubled.

        Raises:
            JobError: when no worker can take it.
        """

    def pending_upkeep(self, task: str) -> bool:
        """Whether a backup or a drill waits or runs."""


class Services(Protocol):
    """The wired system (`clinic.services.Services`)."""

    @property
    def config(self) -> Config:
        """The configuration of the data folder."""

    @property
    def records(self) -> Records:
        """Records and audit log."""

    @property
    def jobs(self) -> Jobs:
        """The background jobs."""

    @property
    def policy(self) -> PolicyStore:
        """The policy sets: the one that decides, and those before it."""

    @property
    def session_key(self) -> bytes:
        """The key under which session cookies are signed."""

    @property
    def model_label(self) -> str:
        """The writing model in words for people."""

    @property
    def clip(self) -> Callable[[EncounterId, float, float], bytes]:
        """Gives some seconds of an encounter's recording as WAV."""

    @property
    def notices(self) -> Callable[[EncounterId], tuple[str, ...]]:
        """Gives what the policy obliges us to tell the clinician about a draft."""

    @property
    def denial(self) -> Callable[[EncounterId], tuple[Reason, ...]]:
        """Gives why an encounter was refused, in the policy set's own words."""


def attach(app_extensions: dict[str, object], wired: Services) -> None:
    """Make `wired` the services of an application."""
    app_extensions[_EXTENSION] = wired


def services() -> Services:
    """Return the services of the application that handles this request."""
    return cast("Services", current_app.extensions[_EXTENSION])
