"""What the API needs from the rest of the system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from clinic.capture import Queue
from clinic.domain import EncounterId
from clinic.policy.activation import PolicyStore
from clinic.records.records import Records


class Services(Protocol):
    """The wired system (`clinic.services.Services`)."""

    @property
    def records(self) -> Records:
        """Records and audit log."""

    @property
    def jobs(self) -> Queue:
        """The background jobs."""

    @property
    def policy(self) -> PolicyStore:
        """The policy sets."""

    @property
    def model_label(self) -> str:
        """The writing model in words for people."""

    @property
    def notices(self) -> Callable[[EncounterId], tuple[str, ...]]:
        """Gives what the policy obliges us to tell the clinician about a draft."""
