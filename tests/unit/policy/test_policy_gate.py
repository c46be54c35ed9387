"""The gate: recorded and committed first, released once, and never anything else than what was recorded."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle  # noqa: TID251 - to show that it refuses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event

from clinic.audit import tables
from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized
from clinic.audit.log import AuditLog
from clinic.domain import OPERATOR, GenerationId
from clinic.errors import AuditError, PolicyError
from clinic.policy import gate
from clinic.policy.decision import Deny, Permit, Redact
from clinic.policy.gate import ReleasedPrompt, ReleaseGate
from tests.unit.policy.policy_samples import DIGEST, make_event, make_prompt

PERMIT = Permit(("base",), ("evidence:required", "label:draft", "max_tokens:900"), DIGEST)


class Stopwatch:
    """A monotonic clock that goes when told."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the present second."""
        return self.now


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    """A real audit log in a SQLite file."""
    engine = create_engine(f"sqlite:///{tmp_path / 'clinic.db'}")

    @event.listens_for(engine, "connect")
    def by_hand(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined] # sqlite3

    @event.listens_for(engine, "begin")
    def immediate(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def begin() -> Iterator[Connection]:
        with engine.begin() as connection:
            yield connection

    with begin() as connection:
        tables.create(connection)
    yield AuditLog(begin, pseudonym_key=b"p" * 32, signing_seed=b"s" * 32)
    engine.dispose()


@pytest.fixture
def watch() -> Stopwatch:
    """A clock for the gate."""
    return Stopwatch()


@pytest.fixture
def release(audit: AuditLog, watch: Stopwatch) -> Callable[[], ReleasedPrompt]:
    """Release a small prompt through a real audit log."""

    def run() -> ReleasedPrompt:
        prompt = make_prompt()
        return ReleaseGate(audit, monotonic=watch).release(
            PERMIT, prompt, make_event(PERMIT, prompt), record=lambda e: audit.append(e, actor=OPERATOR)
        )

    return run


# --- order ----------------------------------------------------------------------------------------------


def test_release_records_first_and_returns_the_prompt_once(
    audit: AuditLog, release: Callable[[], ReleasedPrompt]
) -> None:
    """A permitted prompt is in the audit log when it is released, and can be claimed exactly once."""
    released = release()
    (entry,) = audit.entries()
    assert (entry.event, entry, released.generation) == ("generation.authorized", released.authorized, "g1")
    assert released.claim() == make_prompt()
    with pytest.raises(RuntimeError, match="used already"):
        released.claim()


def refusing(error: Exception) -> Callable[[GenerationAuthorized], Entry]:
    """Return a recorder that fails."""

    def record(_: GenerationAuthorized) -> Entry:
        raise error

    return record


def test_nothing_is_released_when_recording_fails(audit: AuditLog) -> None:
    """If the append fails there is no released prompt and no entry."""
    prompt = make_prompt()
    before = len(gate._grants)
    with pytest.raises(AuditError, match="disk"):
        ReleaseGate(audit).release(
            PERMIT, prompt, make_event(PERMIT, prompt), record=refusing(AuditError("disk is gone"))
        )
    assert len(gate._grants) == before
    assert list(audit.entries()) == []


def test_nothing_is_released_when_the_entry_was_not_committed(audit: AuditLog) -> None:
    """An entry that was appended and rolled back is not there when it is read back."""
    prompt = make_prompt()

    def record(happened: GenerationAuthorized) -> Entry:
        with audit._begin() as connection:
            entry = audit.append(happened, actor=OPERATOR, connection=connection)
            connection.rollback()
        return entry

    with pytest.raises(AuditError):
        ReleaseGate(audit).release(PERMIT, prompt, make_event(PERMIT, prompt), record=record)


def test_rolled_back_entry_would_pass_without_confirmation(audit: AuditLog) -> None:
    """Negative control: with a log that confirms everything, the same rolled-back entry is released."""

    class Credulous:
        def confirm(self, entry: Entry) -> None:
            """Believe anything."""

    prompt = make_prompt()

    def record(happened: GenerationAuthorized) -> Entry:
        with audit._begin() as connection:
            entry = audit.append(happened, actor=OPERATOR, connection=connection)
            connection.rollback()
        return entry

    released = ReleaseGate(Credulous()).release(PERMIT, prompt, make_event(PERMIT, prompt), record=record)
    assert released.claim() == prompt


def test_entry_of_another_event_is_refused(audit: AuditLog) -> None:
    """A recorder that writes something else than it was given releases nothing."""
    prompt = make_prompt()
    other = make_event(PERMIT, prompt, encounter="e2")
    with pytest.raises(AuditError, match="not the one") as caught:
        ReleaseGate(audit).release(
            PERMIT, prompt, make_event(PERMIT, prompt), record=lambda _: audit.append(other, actor=OPERATOR)
        )
    assert caught.value.code == "audit_damaged"


def test_the_same_words_under_another_name_are_refused(audit: AuditLog) -> None:
    """An entry with the right body that is no permission releases nothing."""
    prompt = make_prompt()

    def record(event: GenerationAuthorized) -> Entry:
        return dataclasses.replace(audit.append(event, actor=OPERATOR), event="generation.denied")

    with pytest.raises(AuditError, match="not the one"):
        ReleaseGate(audit).release(PERMIT, prompt, make_event(PERMIT, prompt), record=record)


# --- what belongs together ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_sha256", "f" * 64),
        ("policy_set", "f" * 64),
        ("policies", ("other",)),
        ("obligations", ("label:draft",)),
        ("action", "summarise_dictation"),
        ("model", "gemma-9"),
        ("model_sha256", "f" * 64),
        ("template", "hp"),
        ("template_sha256", "f" * 64),
    ],
)
def test_event_that_says_something_else_is_refused(field: str, value: object, audit: AuditLog) -> None:
    """An event that does not say exactly what was decided is not recorded, and nothing is released."""
    prompt = make_prompt()
    with pytest.raises(RuntimeError, match=f"`{field}`"):
        ReleaseGate(audit).release(
            PERMIT, prompt, make_event(PERMIT, prompt, **{field: value}), record=refusing(AssertionError("recorded"))
        )


def test_denied_prompt_is_never_released(audit: AuditLog) -> None:
    """A denial handed to the gate is refused before anything is recorded."""
    prompt = make_prompt()
    with pytest.raises(RuntimeError, match="only a permitted prompt"):
        ReleaseGate(audit).release(
            Deny((), (), DIGEST),  # type: ignore[arg-type] # mypy refuses it too
            prompt,
            make_event(PERMIT, prompt),
            record=refusing(AssertionError("recorded")),
        )


def test_prompt_over_the_token_limit_is_refused(audit: AuditLog) -> None:
    """The token limit that the policy obliges to is held before anything is recorded."""
    prompt = make_prompt(max_tokens=901)
    with pytest.raises(PolicyError, match="901 tokens") as caught:
        ReleaseGate(audit).release(
            PERMIT, prompt, make_event(PERMIT, prompt), record=refusing(AssertionError("recorded"))
        )
    assert caught.value.code == "obligation_unmet"


def test_redacted_decision_is_released_like_a_permit(audit: AuditLog) -> None:
    """A decision that asks for redaction is released once the caller has built the redacted prompt."""
    prompt = make_prompt()
    decision = Redact(PERMIT.policies, (*PERMIT.obligations, "redact:identifiers"), DIGEST, ("identifiers",))
    released = ReleaseGate(audit).release(
        decision, prompt, make_event(decision, prompt), record=lambda e: audit.append(e, actor=OPERATOR)
    )
    assert released.claim().sha256 == prompt.sha256


# --- forging ----------------------------------------------------------------------------------------------


def test_released_prompt_cannot_be_made_outside_the_gate(release: Callable[[], ReleasedPrompt]) -> None:
    """Neither the constructor nor a way around it makes something that can be claimed."""
    released = release()
    with pytest.raises(RuntimeError, match="only `ReleaseGate"):
        ReleasedPrompt(released.prompt, generation=GenerationId("g"), authorized=released.authorized)
    forged = object.__new__(ReleasedPrompt)
    for name in ("prompt", "generation", "authorized"):
        object.__setattr__(forged, name, getattr(released, name))
    with pytest.raises(RuntimeError, match="not released by the gate"):
        forged.claim()
    assert released.claim() == make_prompt()


def test_released_prompt_cannot_be_copied_pickled_or_subclassed(release: Callable[[], ReleasedPrompt]) -> None:
    """There is never a second object that could be claimed."""
    released = release()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError):
            attempt(released)
    with pytest.raises(RuntimeError, match="no subclasses"):
        type("Mine", (ReleasedPrompt,), {})


def test_released_prompt_cannot_be_changed(release: Callable[[], ReleasedPrompt]) -> None:
    """Its fields are fixed, and a prompt that is swapped by force is not what was recorded."""
    released = release()
    with pytest.raises(RuntimeError, match="cannot be changed"):
        released.prompt = make_prompt(text="other")
    with pytest.raises(RuntimeError, match="cannot be changed"):
        del released.prompt
    object.__setattr__(released, "prompt", make_prompt(text="other"))
    with pytest.raises(RuntimeError, match="not the one that was recorded"):
        released.claim()


def test_prompt_altered_after_release_is_refused(release: Callable[[], ReleasedPrompt]) -> None:
    """The parts of a prompt that can be changed in place are hashed again; the attempt uses the release up."""
    released = release()
    schema = released.prompt.parts[0].json_schema
    assert schema is not None
    schema["type"] = "string"
    for message in ("not the one that was recorded", "used already"):
        with pytest.raises(RuntimeError, match=message):
            released.claim()


def test_claimed_prompt_is_a_copy(release: Callable[[], ReleasedPrompt]) -> None:
    """What is claimed shares nothing with what anybody else holds."""
    released = release()
    claimed = released.claim()
    schema = released.prompt.parts[0].json_schema
    assert schema is not None
    schema["type"] = "string"
    assert claimed.parts[0].json_schema == {"type": "object"}


@pytest.mark.parametrize(("seconds", "allowed"), [(10.0, True), (10.001, False)])
def test_release_expires(
    seconds: float, *, allowed: bool, release: Callable[[], ReleasedPrompt], watch: Stopwatch
) -> None:
    """A released prompt is good for ten seconds and not a millisecond longer."""
    released = release()
    watch.now += seconds
    if allowed:
        assert released.claim() == make_prompt()
    else:
        with pytest.raises(RuntimeError, match="too old"):
            released.claim()


def test_only_one_of_many_threads_claims(release: Callable[[], ReleasedPrompt]) -> None:
    """Claimed from many threads at once, exactly one gets the prompt."""
    released = release()
    got: list[str] = []
    start = threading.Barrier(16)

    def claim() -> None:
        start.wait()
        try:
            got.append(released.claim().sha256)
        except RuntimeError:
            got.append("")

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got)[:15] == [""] * 15
    assert got.count(make_prompt().sha256) == 1


def test_grants_go_with_their_prompt(release: Callable[[], ReleasedPrompt]) -> None:
    """The gate keeps nothing of a prompt that nobody holds any more."""
    gc.collect()
    before = len(gate._grants)
    released = release()
    assert len(gate._grants) == before + 1
    del released
    gc.collect()
    assert len(gate._grants) == before


def test_repr_shows_no_prompt(release: Callable[[], ReleasedPrompt]) -> None:
    """A released prompt in a log or a traceback shows ids only."""
    assert repr(release()) == "ReleasedPrompt(generation='g1', audit_seq=1)"


def test_decisions_are_frozen() -> None:
    """A decision cannot be changed between the engine and the gate."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        PERMIT.policies = ("other",)  # type: ignore[misc] # on purpose
