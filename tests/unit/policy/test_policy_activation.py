"""Activation: checked, copied, signed, recorded, and taken up by everybody at the next decision; or nothing changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinic.audit.checkpoint import NoteSigner, open_note
from clinic.audit.entry import Entry
from clinic.audit.events import LoginFailed, PolicySetActivated, from_canonical
from clinic.crypto.keys import Keyring, Purpose
from clinic.domain import OPERATOR
from clinic.errors import AuditError, PolicyError
from clinic.policy.activation import NOTHING_BEFORE, PolicyStore, policy_signer
from clinic.policy.load import PolicySet
from clinic.records.engine import open_engine
from clinic.records.migrate import upgrade
from clinic.records.records import Records
from tests.unit.policy.policy_samples import POLICIES

MIGRATIONS = POLICIES.parent / "migrations"


class Clinic:
    """A data folder with its log, in which several processes (stores) may look at the policies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "policies"
        self.engine = open_engine(folder / "clinic.db")
        upgrade(self.engine, MIGRATIONS)
        self.keyring = Keyring.generate()
        self.records = Records(self.engine, keyring=self.keyring)

    def store(self, signer: NoteSigner | None = None) -> PolicyStore:
        """Return what another process would open."""
        own = policy_signer(self.keyring.derive(Purpose.POLICY_SIGNING))
        return PolicyStore(self.folder, self.records.audit, signer or own)


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """A clinic in which nothing was activated yet."""
    made = Clinic(tmp_path)
    yield made
    made.engine.dispose()


def changed(tmp_path: Path, file: str = "speech.cedar", old: str = "below", new: str = "") -> Path:
    """Copy the policies that ship, with one text replaced in one file."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / f"changed-{file}-{len(list(tmp_path.iterdir()))}"))
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


OTHER_WORDS = {"file": "consent.cedar", "old": "// Nobody", "new": "// Somebody"}


def test_first_start_activates_what_ships_and_says_so(clinic: Clinic) -> None:
    """The first start signs and records the set; a second start changes nothing."""
    store = clinic.store()
    with pytest.raises(PolicyError) as caught:
        store.current()
    assert caught.value.code == "policy_inactive"
    for _ in range(2):
        store.ensure(POLICIES, "strict", actor=OPERATOR)
    (only,) = store.history()
    shipped = PolicySet.load(POLICIES)
    assert (only.event.policy_set, only.event.policies) == (shipped.sha256, len(shipped.policies))
    assert (only.event.version, only.event.profile, only.event.previous) == (1, "strict", NOTHING_BEFORE)
    assert only.event.cause == "first_start"
    assert store.current().sha256 == shipped.sha256


def test_a_new_set_counts_in_every_process_from_the_next_decision(clinic: Clinic, tmp_path: Path) -> None:
    """Another process takes the new set without a restart; whoever has the old one in hand keeps it."""
    web, worker = clinic.store(), clinic.store()
    web.ensure(POLICIES, "strict", actor=OPERATOR)
    held = worker.current()
    done = web.activate(changed(tmp_path, **OTHER_WORDS), "strict", actor=OPERATOR)
    assert worker.current().sha256 == done.event.policy_set == web.current().sha256
    assert held.sha256 == done.event.previous != done.event.policy_set
    assert held.is_intact
    assert (done.event.version, done.event.cause) == (2, "activate")


def test_unchanged_set_is_not_read_again(clinic: Clinic) -> None:
    """The same parsed set is handed out as long as nothing changes: a decision parses nothing."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    assert store.current() is store.current()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"file": "speech.cedar", "old": "< 20", "new": "< 19"}, "policy_untested", id="a case fails"),
        pytest.param({"file": "speech.cedar", "old": "< 20", "new": "< "}, "policy_invalid", id="syntax"),
        pytest.param(
            {"file": "consent.cedar", "old": '@id("consent-refused")', "new": '@id("consent-withdrawn")'},
            "policy_invalid",
            id="an id twice",
        ),
        pytest.param(
            {"file": "generation.cedar", "old": "label:draft", "new": "label:final"}, "policy_invalid", id="obligation"
        ),
        pytest.param(
            {"file": "tests/consent.toml", "old": 'name = "refused"', "new": 'nome = "refused"'},
            "policy_invalid",
            id="a case that cannot be read",
        ),
        pytest.param(
            {"file": "access.cedar", "old": "// Who may", "new": '@id("x") @message("X.") forbid(principal, action,'
             ' resource) when { context.words == 77 };\n// Who may'},
            "policy_untested",
            id="a policy without a case",
        ),
    ],
)  # fmt: skip
def test_a_set_that_fails_changes_nothing(clinic: Clinic, tmp_path: Path, change: dict[str, str], code: str) -> None:
    """What does not pass the gate is refused with its reason; the old set stays in force and nothing is recorded."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    before = store.current()
    with pytest.raises(PolicyError) as caught:
        store.activate(changed(tmp_path, **change), "strict", actor=OPERATOR)
    assert caught.value.code == code
    assert store.current() is before
    assert len(store.history()) == 1


def test_unknown_profile_is_refused(clinic: Clinic) -> None:
    """A profile that the folder does not have activates nothing."""
    with pytest.raises(PolicyError) as caught:
        clinic.store().activate(POLICIES, "lenient", actor=OPERATOR)
    assert caught.value.code == "policy_profile_unknown"
    assert clinic.store().history() == ()


def test_profiles_are_two_sets(clinic: Clinic) -> None:
    """Switching the profile is an activation; the sets differ in the profile's own policies only."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    strict = store.current()
    store.activate(POLICIES, "teaching", actor=OPERATOR)
    teaching = store.current()
    assert teaching.profile == "teaching"
    assert set(strict.policies) ^ set(teaching.policies) == {
        "treatment-only", "treatment-or-teaching", "draft-for-teaching",
    }  # fmt: skip


def test_rollback_is_a_new_version_of_an_old_set(clinic: Clinic, tmp_path: Path) -> None:
    """Going back names the set before, under a new version; any other version can be named, too."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    first = store.current().sha256
    store.activate(changed(tmp_path, **OTHER_WORDS), "strict", actor=OPERATOR)
    second = store.current().sha256
    back = store.rollback(actor=OPERATOR)
    assert (back.event.version, back.event.policy_set, back.event.cause) == (3, first, "rollback")
    assert store.rollback(2, actor=OPERATOR).event.policy_set == second == clinic.store().current().sha256
    with pytest.raises(PolicyError) as caught:
        store.rollback(9, actor=OPERATOR)
    assert caught.value.code == "policy_version_unknown"


def files(clinic: Clinic) -> list[Path]:
    """Return every file of the policy sets and their signatures."""
    return sorted(path for path in clinic.folder.rglob("*") if path.is_file())


def test_every_changed_file_denies_in_running_and_new_processes(clinic: Clinic) -> None:
    """Each file of the active set, changed by one byte or removed: no decision, until a set is activated again."""
    running = clinic.store()
    running.ensure(POLICIES, "strict", actor=OPERATOR)
    running.current()
    watched = [path for path in files(clinic) if "tests" not in path.relative_to(clinic.folder).parts]
    assert len(watched) >= 13
    for path in files(clinic):
        original = path.read_bytes()
        for spoilt in (original[:-2] + bytes([original[-2] ^ 1]) + original[-1:], None):
            path.unlink()
            if spoilt is not None:
                path.write_bytes(spoilt)
            for store in [clinic.store(), *([running] if path in watched else [])]:
                with pytest.raises(PolicyError) as caught:
                    store.current()
                assert caught.value.code == "policy_set_damaged", path
        path.unlink(missing_ok=True)
        path.write_bytes(original)
        assert clinic.store().current().sha256 == running.current().sha256  # negative control: whole again, it decides


def test_added_policy_file_denies(clinic: Clinic) -> None:
    """A file that was not signed, put beside the others, is not read as a policy: the set is damaged."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    folder = clinic.folder / store.history()[0].event.files
    (folder / "zz.cedar").write_text('@id("zz") @message("All.") permit (principal, action, resource);')
    with pytest.raises(PolicyError):
        store.current()


def test_signature_of_another_key_denies(clinic: Clinic) -> None:
    """A note signed by anybody else's key is not believed."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    note = next(clinic.folder.glob("ACTIVATION-*"))
    own = policy_signer(clinic.keyring.derive(Purpose.POLICY_SIGNING))
    text = open_note(note.read_text(encoding="utf-8"), key=own.key)
    note.write_text(NoteSigner(name=own.name, seed=b"\x07" * 32).sign(text), encoding="utf-8")
    with pytest.raises(PolicyError):
        store.current()
    note.write_text(own.sign(text.replace("version 1", "version 2")), encoding="utf-8")
    with pytest.raises(PolicyError):  # even our own key, over another statement
        clinic.store().current()
    note.write_text(own.sign(text), encoding="utf-8")
    assert clinic.store().current().is_intact


def test_activation_mends_a_damaged_set(clinic: Clinic) -> None:
    """Activating the shipped set again replaces the damaged copy; the damaged one is kept aside."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    target = clinic.folder / store.history()[0].event.files / "consent.cedar"
    target.unlink()
    target.write_text("// nothing is forbidden any more\n")
    with pytest.raises(PolicyError):
        store.current()
    store.activate(POLICIES, "strict", actor=OPERATOR)
    assert "consent-refused" in store.current().policies
    assert len(list(clinic.folder.glob("*.damaged-*"))) == 1


def test_a_crash_before_the_entry_leaves_the_old_set(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and signature are there, the audit entry is not: the old set decides, and trying again works."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    before = store.current()
    source = changed(tmp_path, **OTHER_WORDS)

    def refuse(*_: object, **__: object) -> None:
        raise AuditError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(clinic.records.audit, "append", refuse)
        with pytest.raises(AuditError):
            store.activate(source, "strict", actor=OPERATOR)
    assert store.current() is before
    assert clinic.store().current().sha256 == before.sha256
    assert store.activate(source, "strict", actor=OPERATOR).event.version == 2


def test_entry_says_what_was_signed(clinic: Clinic) -> None:
    """The log alone tells which set decides, and the signed note tells it without the log."""
    store = clinic.store()
    store.ensure(POLICIES, "teaching", actor=OPERATOR)
    entry = clinic.records.audit.latest("policyset.activated")
    assert entry is not None
    event = from_canonical(entry.event, entry.body)
    assert isinstance(event, PolicySetActivated)
    own = policy_signer(clinic.keyring.derive(Purpose.POLICY_SIGNING))
    text = open_note(next(clinic.folder.glob("ACTIVATION-*")).read_text(encoding="utf-8"), key=own.key)
    assert text.splitlines() == [
        "clinic policy activation v1",
        f"set {event.policy_set}",
        f"files {event.files}",
        "version 1",
        "profile teaching",
        f"previous {NOTHING_BEFORE}",
    ]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(clinic))


def test_a_decision_does_not_look_through_the_whole_log(clinic: Clinic, tmp_path: Path) -> None:
    """Entries are looked at once; one that comes between two looks is found, and so is a log that was put back."""
    store = clinic.store()
    store.ensure(POLICIES, "strict", actor=OPERATOR)
    asked: list[int] = []
    latest = clinic.records.audit.latest

    def counting(event: str, *, after: int = 0) -> Entry | None:
        asked.append(clinic.records.audit.size() - after)
        return latest(event, after=after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clinic.records.audit, "latest", counting)
        first = store.current()
        for _ in range(20):
            clinic.records.audit.append(LoginFailed(user_id="unknown", reason="unknown"), actor=OPERATOR)
            assert store.current() is first
    assert asked == [1, *[1] * 20]
    clinic.store().activate(changed(tmp_path, **OTHER_WORDS), "strict", actor=OPERATOR)
    clinic.records.audit.append(LoginFailed(user_id="unknown", reason="unknown"), actor=OPERATOR)
    assert store.current() is not first
    store._seen += 1000  # as if this log had been put in the place of a longer one
    assert store.current().sha256 == clinic.store().current().sha256
