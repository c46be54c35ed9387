"""The command line as its users meet it: accounts, keys, documents that fit each other, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clinic.audit.latch import Reason
from clinic.cli import main
from clinic.cli.report import first_heard
from clinic.config import Config
from clinic.crypto.keys import KeyBytes, Passphrase, RecoveryKey, SlotKind, add_slot, slots, unlock
from clinic.domain import Segment, Word
from clinic.errors import AuthenticationError, SealedError
from clinic.home import HomeOptions, create, open_records, recover, unlock_home
from clinic.records.records import Records
from tests.conftest import MODELS, SAMPLE

OLD, NEW = "the first passphrase of all", "quite another passphrase now"


def clinic(*arguments: str, config: Config | None = None, typed: str | None = None) -> Result:
    """Run one command."""
    home = [] if config is None else ["--home", str(config.home)]
    return CliRunner().invoke(main, [*arguments, *home], input=typed)


def document(result: Result) -> Any:
    """Return the one JSON document on stdout."""
    return json.loads(result.stdout)


def test_account_is_added_listed_reset_disabled_enabled(config: Config, records: Records) -> None:
    """`user add|list|reset|disable|enable` do what they say, and the records still fit the log."""
    assert (
        clinic("user", "add", "ada", "--role", "clinician", config=config, typed="correct horse battery\n").exit_code
        == 0
    )
    assert [u["username"] for u in document(clinic("user", "list", "--json", config=config))] == ["ada"]
    assert clinic("user", "reset", "ada", config=config, typed="another good password\n").exit_code == 0
    assert records.authenticate("ada", "another good password").username == "ada"
    assert clinic("user", "disable", "ada", config=config).exit_code == 0
    with pytest.raises(AuthenticationError):
        records.authenticate("ada", "another good password")
    assert clinic("user", "enable", "ada", config=config).exit_code == 0
    assert records.authenticate("ada", "another good password").username == "ada"
    assert records.sweep() == ()


def test_keys_status_is_json(config: Config) -> None:
    """`keys status --json` is one document."""
    kinds = [slot["kind"] for slot in document(clinic("keys", "status", "--json", config=config))["slots"]]
    assert sorted(kinds) == ["insecure-key-file", "recovery"]


def test_recovery_sets_a_passphrase_and_keeps_the_recovery_key(tmp_path: Path) -> None:
    """After a recovery the new passphrase opens, the old one does not, and the paper key works another time."""
    made = create(tmp_path / "h", HomeOptions(passphrase=OLD, models=MODELS))
    recover(made.config, RecoveryKey.from_shares(*made.shares[:2]), NEW)
    records = open_records(made.config, unlock_home(made.config, passphrase=NEW))
    assert [e.event for e in records.audit.entries()][-1] == "key.unlocked"
    with pytest.raises(SealedError):
        unlock_home(made.config, passphrase=OLD)
    assert sorted(slot.kind for slot in slots(made.config.keys_file)) == [SlotKind.PASSPHRASE, SlotKind.RECOVERY]
    recover(made.config, RecoveryKey.from_shares(*made.shares[:2]), OLD)
    unlock_home(made.config, passphrase=OLD)


@pytest.mark.models
def test_consult_documents_fit_the_other_commands(config: Config, tmp_path: Path) -> None:
    """What `consult --json` prints is read by `note verify` as transcript and as note, with the same verdicts."""
    out = document(clinic("consult", str(SAMPLE), "--language", "en", "--json", config=config))
    assert set(out) == {"encounter", "transcript", "decision", "note", "red_flags", "timings"}
    assert out["decision"]["outcome"] in {"permit", "redact"}
    file = tmp_path / "consult.json"
    file.write_text(json.dumps(out), encoding="utf-8")
    again = document(clinic("note", "verify", "--transcript", str(file), "--note", str(file), "--json"))
    verdicts = {s["id"]: s["status"] for s in out["note"]["statements"]}
    assert {s["id"]: s["status"] for s in again["statements"]} == verdicts
    assert "audit log:" in clinic("audit", "verify", config=config).stdout


@pytest.mark.models
def test_transcribing_leaves_nothing_but_the_models(tmp_path: Path) -> None:
    """`transcribe` without a data folder writes only the models' cache: no telemetry of a library, no data folder."""
    command = [sys.executable, "-m", "clinic", "transcribe", str(SAMPLE), "--json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CLINIC", "XDG", "HF_", "ORT_"))}
    run = subprocess.run(
        command, env=clean | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=200, check=True
    )
    assert json.loads(run.stdout)["segments"]
    left = {str(p.relative_to(tmp_path).parent) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {".cache/clinic/models/whisper-base", ".cache/clinic/models/resemblyzer-ge2e"}


def test_two_sheets_and_a_new_passphrase_may_be_piped_in(tmp_path: Path) -> None:
    """`keys recover` reads three lines; a mistyped word, sheets of two sets and missing lines change nothing."""
    made = create(tmp_path / "h", HomeOptions(passphrase=OLD, models=MODELS))
    one, two, three = made.shares

    def recovered(*lines: str) -> Result:
        return clinic("keys", "recover", config=made.config, typed="".join(f"{line}\n" for line in lines))

    mistyped = recovered(one, " ".join(["zero", *two.split()[1:]]), NEW)
    assert mistyped.exit_code == 2
    assert "another sheet is mistyped in word 1 (recovery_share_typo)" in mistyped.stderr
    strange = RecoveryKey.generate().split()[0]
    assert "recovery_shares_differ" in recovered(one, strange, NEW).stderr
    assert "input_missing" in recovered(one, two).stderr
    unlock_home(made.config, passphrase=OLD)  # nothing has changed

    done = recovered(three, one, NEW)
    assert done.exit_code == 0, done.output
    unlock_home(made.config, passphrase=NEW)
    with pytest.raises(SealedError):
        unlock_home(made.config, passphrase=OLD)


def test_new_shares_make_the_old_ones_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`keys new-shares` prints three sheets once; the old sheets open nothing, the new ones do, and the log says so."""
    made = create(tmp_path / "h", HomeOptions(passphrase=OLD, models=MODELS))
    monkeypatch.setenv("CLINIC_PASSPHRASE", OLD)
    new = document(clinic("keys", "new-shares", "--json", config=made.config))["shares"]
    with pytest.raises(SealedError):
        recover(made.config, RecoveryKey.from_shares(*made.shares[:2]), NEW)
    recover(made.config, RecoveryKey.from_shares(new[0], new[2]), NEW)
    records = open_records(made.config, unlock_home(made.config, passphrase=NEW))
    assert [entry.event for entry in records.audit.entries()][-2:] == ["shares.renewed", "key.unlocked"]


def test_a_new_credential_makes_the_old_one_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a new mainboard: two sheets, a passphrase, a new credential; the old one opens nothing any more."""
    old, new = secrets.token_hex(32).encode(), secrets.token_hex(32).encode()
    made = create(tmp_path / "h", HomeOptions(credential=old, models=MODELS))
    recover(made.config, RecoveryKey.from_shares(*made.shares[:2]), NEW)
    toml = made.config.home / "clinic.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace('"credential"', '"passphrase"'), encoding="utf-8")
    file = tmp_path / "new.key"
    file.write_bytes(new)
    file.chmod(0o644)
    monkeypatch.setenv("CLINIC_PASSPHRASE", NEW)
    assert clinic("keys", "new-credential", str(file), config=made.config).exit_code == SealedError.exit_code
    file.chmod(0o600)
    monkeypatch.setenv("CLINIC_PASSPHRASE", NEW)
    told = clinic("keys", "new-credential", str(file), config=made.config)
    assert told.exit_code == 0, told.output
    assert 'key_source = "credential"' in told.stdout
    keyring = unlock(made.config.keys_file, KeyBytes.from_text(new, "credential"))
    with pytest.raises(SealedError):
        unlock(made.config.keys_file, KeyBytes.from_text(old, "credential"))
    assert [entry.event for entry in open_records(made.config, keyring).audit.entries()][-1] == "credential.renewed"


def slot_of(config: Config, kind: SlotKind) -> str:
    """Return the id of the one slot of a kind, as `keys status` shows it."""
    told = document(clinic("keys", "status", "--json", config=config))["slots"]
    (found,) = [slot["id"] for slot in told if slot["kind"] == kind]
    assert found in clinic("keys", "status", config=config).stdout
    return str(found)


def test_one_way_in_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential that is not used any more opens nothing from then on, everything else does; the log says so."""
    credential = secrets.token_hex(32).encode()
    made = create(tmp_path / "h", HomeOptions(passphrase=OLD, models=MODELS))
    key = KeyBytes.from_text(credential, "credential")
    add_slot(made.config.keys_file, Passphrase(OLD), new=key)
    gone = slot_of(made.config, SlotKind.CREDENTIAL)
    monkeypatch.setenv("CLINIC_PASSPHRASE", OLD)
    told = clinic("keys", "remove-slot", gone[:8], config=made.config)
    assert told.exit_code == 0, told.output
    assert "the credential made" in told.stdout
    with pytest.raises(SealedError):
        unlock(made.config.keys_file, key)
    recover(made.config, RecoveryKey.from_shares(*made.shares[:2]), NEW)
    entries = list(open_records(made.config, unlock_home(made.config, passphrase=NEW)).audit.entries())
    (event,) = [entry for entry in entries if entry.event == "slot.removed"]
    assert json.loads(event.body) == {"slot": gone, "slot_kind": "credential", "left": 2}


def test_a_passphrase_is_taken_away_by_the_sheets_only_where_another_source_opens(tmp_path: Path) -> None:
    """Two sheets unlock for it; the passphrase stays while `key_source` names it, and goes after that."""
    credential = secrets.token_hex(32).encode()
    made = create(tmp_path / "h", HomeOptions(passphrase=OLD, models=MODELS))
    add_slot(made.config.keys_file, Passphrase(OLD), new=KeyBytes.from_text(credential, "credential"))
    slot, sheets = slot_of(made.config, SlotKind.PASSPHRASE), "\n".join(made.shares[1:]) + "\n"
    refused = clinic("keys", "remove-slot", slot, "--recovery", config=made.config, typed=sheets)
    assert refused.exit_code == 2
    assert "slot_needed" in refused.stderr
    unlock_home(made.config, passphrase=OLD)
    toml = made.config.home / "clinic.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace('"passphrase"', '"credential"'), encoding="utf-8")
    assert clinic("keys", "remove-slot", slot, "--recovery", config=made.config, typed=sheets).exit_code == 0
    with pytest.raises(SealedError):
        unlock(made.config.keys_file, Passphrase(OLD))
    unlock(made.config.keys_file, KeyBytes.from_text(credential, "credential"))


def test_nobody_locks_everybody_out(config: Config) -> None:
    """What just unlocked stays, the last recovery slot too unless it is said twice; what was typed is not repeated."""
    secret = config.insecure_key_file.read_text(encoding="ascii").strip()
    before = config.keys_file.read_bytes()
    own, recovery = slot_of(config, SlotKind.INSECURE_KEY_FILE), slot_of(config, SlotKind.RECOVERY)
    for typed, code in (
        (own, "slot_in_use"),
        (recovery, "slot_needed"),
        (secret, "slot_unknown"),
        ("", "slot_unknown"),
    ):
        refused = clinic("keys", "remove-slot", typed, config=config)
        assert refused.exit_code == 2
        assert code in refused.stderr
        assert secret not in refused.output
    assert config.keys_file.read_bytes() == before
    assert clinic("keys", "remove-slot", recovery, "--without-recovery", config=config).exit_code == 0
    assert clinic("keys", "remove-slot", own, "--without-recovery", config=config).exit_code == 2
    assert [slot.id for slot in slots(config.keys_file)] == [own]


def test_no_way_in_is_taken_away_unrecorded(config: Config, records: Records) -> None:
    """While the log takes no entry, the slot stays."""
    records.guard.latch(Reason.WRITE_FAILED)
    before = config.keys_file.read_bytes()
    refused = clinic("keys", "remove-slot", slot_of(config, SlotKind.RECOVERY), "--without-recovery", config=config)
    assert "audit_latched" in refused.stderr
    assert config.keys_file.read_bytes() == before


def test_init_prints_three_sheets(tmp_path: Path) -> None:
    """Every word of every sheet is printed with its number, and what to do with the sheets."""
    told = CliRunner().invoke(main, ["init", "--insecure-key-file", "--home", str(tmp_path / "h")])
    assert told.exit_code == 0, told.output
    pages = told.stdout.split("CLINIC RECOVERY SHEET ")
    assert len(pages) == 4
    assert "ANY TWO of them" in pages[0]
    shares = []
    for page in pages[1:]:
        numbered = dict(re.findall(r"(\d+)\. ([a-z]+)", page))
        assert list(map(int, sorted(numbered, key=int))) == list(range(1, 34))
        shares.append(" ".join(numbered[str(place)] for place in range(1, 34)))
    recover(Config.load(tmp_path / "h"), RecoveryKey.from_shares(shares[0], shares[2]), NEW)


def test_models_are_held_against_their_profile(config: Config, tmp_path: Path) -> None:
    """`clinic models verify` prints the digests to pin, and ends with 1 where weights are not what the profile pins."""
    done = clinic("models", "verify", "--json", config=config)
    assert done.exit_code == 0
    assert [part["part"] for part in document(done)["parts"]] == ["weights", "adapter"]
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"weights")
    text = 'id = "gemma-x"\nlabel = "x"\nlicence = "x"\nengine = "vllm"\nstyle = "chat"\ncontext_tokens = 8192\n'
    profile = tmp_path / "p.toml"
    profile.write_text(f'{text}[weights]\npath = "{weights}"\n')
    unpinned = clinic("models", "verify", "--json", "--profile", str(profile), config=config)
    assert unpinned.exit_code == 1
    (part,) = document(unpinned)["parts"]
    profile.write_text(f'{text}[weights]\npath = "{weights}"\nsha256 = "{part["sha256"]}"\n')
    assert clinic("models", "verify", "--profile", str(profile), config=config).exit_code == 0
    (weights / "model.safetensors").write_bytes(b"other weights")
    changed = clinic("models", "verify", "--profile", str(profile), config=config)
    assert changed.exit_code == 1
    assert "NOT WHAT IS PINNED" in changed.output


def test_a_name_put_in_by_a_second_hearing_says_what_was_heard_first() -> None:
    """The plain transcript of the command line tells which drug stands in the place of other words."""
    words = (
        Word(text="Take", start=0, end=0.2, probability=0.9),
        Word(text="candesartan,", start=0.2, end=0.9, probability=0.3, heard_first="Candice Arton"),
    )
    segment = Segment(id="s1", text="Take candesartan,", words=words)
    assert first_heard(segment) == "  (name of a drug, heard first as: candesartan: Candice Arton)"
    assert first_heard(segment.model_copy(update={"words": words[:1]})) == ""
