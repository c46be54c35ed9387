"""What an account has beside its password, and what its role has to have.

Rules kept here:

* Nothing is opened: signing in asks this before anything secret is looked at.
* A role that has to have a second factor has it from the moment it was said, sessions that run included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select

from clinic.audit.events import FactorRequired
from clinic.domain import Actor, Role
from clinic.records.models import FactorRoleRow, PasskeyRow, RecoveryCodesRow, SecondFactorRow
from clinic.records.users import User
from clinic.records.work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account proves who it is.

    Attributes:
        app: it has an app that shows codes, confirmed.
        passkeys: so many passkeys sign it in.
        recovery_left: so many recovery codes are good.
        required: its role has to have a second factor.
    """

    app: bool
    passkeys: int
    recovery_left: int
    required: bool

    @property
    def has_factor(self) -> bool:
        """Whether signing in takes more than the password."""
        return self.app or self.passkeys > 0

    @property
    def owes_factor(self) -> bool:
        """Whether the account has to set up a second factor before it may do anything else."""
        return self.required and not self.has_factor


def standing(work: UnitOfWork, user: User) -> Standing:
    """Return how an account stands now."""
    app = work.session.get(SecondFactorRow, user.id)
    codes = work.session.get(RecoveryCodesRow, user.id)
    return Standing(
        app=app is not None and app.confirmed_at is not None,
        passkeys=_passkeys(work, user),
        recovery_left=0 if codes is None else codes.left,
        required=work.session.get(FactorRoleRow, user.role.value) is not None,
    )


def _passkeys(work: UnitOfWork, user: User) -> int:
    query = select(func.count()).select_from(PasskeyRow).where(PasskeyRow.user_id == user.id)
    return work.session.scalar(query) or 0


def required_roles(work: UnitOfWork) -> frozenset[Role]:
    """Return the roles that have to have a second factor."""
    return frozenset(Role(role) for role in work.session.scalars(select(FactorRoleRow.role)))


def require_for(work: UnitOfWork, roles: Iterable[Role], actor: Actor) -> bool:
    """Let exactly these roles have to have a second factor; return whether that is a change."""
    wanted, present = frozenset(map(Role, roles)), required_roles(work)
    if wanted == present:
        return False
    for role in present - wanted:
        work.session.delete(work.require(FactorRoleRow, role.value, what="role"))
    for role in sorted(wanted - present):
        work.add(FactorRoleRow(role=role.value, since=work.now()))
    work.append(FactorRequired(roles=tuple(role.value for role in wanted)), actor=actor)
    return True
