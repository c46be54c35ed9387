"""The administrator's and the auditor's pages, which hold no patient data."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest
from werkzeug.test import TestResponse

from clinic.audit.export import open_export
from clinic.domain import OPERATOR, Role
from clinic.errors import DecryptionError, InputError
from clinic.records import invitations
from clinic.records.patients import Patient
from clinic.web import origin
from tests.functional.web_world import CANARY, PASSWORD, World


def code_in(page: str) -> str:
    """Return the one-time code that a page shows."""
    found = re.search(r'data-testid="one-time-code">([2-9a-z]{5}-[2-9a-z]{5})<', page)
    assert found is not None
    return found[1]


def choose(world: World, code: str, password: str, username: str = "nurse.joy") -> TestResponse:
    """Choose a password with a one-time code."""
    browser = world.browser()
    browser.get("/welcome")
    return browser.post("/welcome", username=username, code=code, password=password)


def test_administrator_adds_resets_and_disables(world: World) -> None:
    """A new account's owner chooses the password with a code that is shown once; so does who has forgotten it."""
    admin, person = world.browser(Role.ADMINISTRATOR), world.browser()
    fields = {"username": "nurse.joy", "display_name": "Joy", "role": "clinician", "proof": PASSWORD}
    code = code_in(admin.post("/users", **fields).text)
    assert choose(world, code, "first password").status_code == 303
    assert person.sign_in("nurse.joy", "first password").status_code == 302
    with world.records.read() as tx:
        account = tx.users.by_username("nurse.joy")
    assert account is not None
    assert code not in admin.get(f"/users/{account.id}").text
    again = code_in(admin.post(f"/users/{account.id}/code").text)
    assert person.get("/password", json=True).status_code == 401, "signed out at once"
    assert person.sign_in("nurse.joy", "first password").status_code == 401, "the old password is good no more"
    assert choose(world, again, "second password").status_code == 303
    assert person.sign_in("nurse.joy", "second password").status_code == 302
    assert admin.post(f"/users/{account.id}/disable").status_code == 303
    assert world.browser().sign_in("nurse.joy", "second password").status_code == 401
    assert world.events().count("invitation.used") == 2
    assert world.records.sweep() == ()


def test_a_code_is_good_once_for_one_account_and_a_day(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Used, replaced, somebody else's, too old, for a disabled account or for none: all are answered alike."""
    admin, account = world.browser(Role.ADMINISTRATOR), world.users[Role.CLINICIAN]
    admin.get("/users")
    old = code_in(admin.post(f"/users/{account.id}/code", proof=PASSWORD).text)
    new = code_in(admin.post(f"/users/{account.id}/code").text)
    pages = [choose(world, old, "another password", "clinician"), choose(world, new, "another password", "auditor")]
    pages += [choose(world, new, "another password", "nobody"), choose(world, "x", "another password", "clinician")]
    monkeypatch.setattr(invitations, "GOOD_FOR", timedelta(0))
    late = code_in(admin.post(f"/users/{account.id}/code").text)
    pages.append(choose(world, late, "another password", "clinician"))
    monkeypatch.undo()
    good = code_in(admin.post(f"/users/{account.id}/code").text)
    admin.post(f"/users/{account.id}/disable")
    pages.append(choose(world, good, "another password", "clinician"))
    admin.post(f"/users/{account.id}/enable")
    assert {(page.status_code, "The administrator makes a new one." in page.text) for page in pages} == {(422, True)}
    assert choose(world, good.upper(), "short", "clinician").status_code == 422
    assert choose(world, good.upper(), "another password", "clinician").status_code == 303
    assert choose(world, good, "third password", "clinician").status_code == 422
    assert world.browser().sign_in("clinician", "another password").status_code == 302


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("localhost", "clinic.test"), ["https://clinic.test", "https://clinic.test:8443"]),
        (("localhost", "box.local"), ["https://box.local:8443", "https://192.168.1.9:8443"]),
        (("localhost",), ["https://192.168.1.9:8443"]),
    ],
    ids=["asked-by-name", "not-vouched-for", "number-only"],
)
def test_a_new_account_is_told_addresses_that_lead_to_the_box(
    world: World, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], shown: list[str]
) -> None:
    """The one that the administrator uses first; none that the certificate lacks, none of the device itself."""
    monkeypatch.setattr(origin, "names_of_the_box", lambda: names)
    monkeypatch.setattr(origin, "server_addresses", lambda _: ("127.0.0.1", "192.168.1.9"))
    admin, account = world.browser(Role.ADMINISTRATOR), world.users[Role.CLINICIAN]
    admin.get("/users")
    page = admin.post(f"/users/{account.id}/code", proof=PASSWORD).text
    assert re.findall(r"<code>(.*?)/welcome</code>", page) == shown


def test_guessing_a_code_waits(world: World) -> None:
    """After five wrong ones the right one has to wait; for a name that is nobody's as for one that is."""
    admin, account = world.browser(Role.ADMINISTRATOR), world.users[Role.CLINICIAN]
    admin.get("/users")
    good = code_in(admin.post(f"/users/{account.id}/code", proof=PASSWORD).text)
    for name in ("clinician", "nobody"):
        tried = [choose(world, "22222-22222", "another password", name).status_code for _ in range(6)]
        assert tried == [422] * 5 + [429]
    assert choose(world, good, "another password", "clinician").status_code == 429


def test_only_codes_of_the_database_are_known(world: World) -> None:
    """The code is in no file in the clear, and one that is put in past the log is found."""
    admin, account = world.browser(Role.ADMINISTRATOR), world.users[Role.CLINICIAN]
    admin.get("/users")
    code = code_in(admin.post(f"/users/{account.id}/code", proof=PASSWORD).text)
    content = b"".join(path.read_bytes() for path in world.services.config.home.glob("clinic.db*"))
    assert code.replace("-", "").encode() not in content
    with closing(sqlite3.connect(world.services.config.database)) as db, db:
        db.execute("UPDATE invitations SET subject = ?", (world.users[Role.AUDITOR].id,))
    assert {found.problem for found in world.records.sweep()} == {"missing", "unrecorded", "unreadable"}
    with pytest.raises(DecryptionError):
        world.records.redeem("auditor", code, "another password")


def test_disabled_account_is_enabled_again(world: World) -> None:
    """Disabling asks a second time; the page of a disabled account offers the way back, and it works."""
    admin = world.browser(Role.ADMINISTRATOR)
    account = world.users[Role.CLINICIAN]
    page = admin.get(f"/users/{account.id}").text
    assert "Yes, disable clinician" in page
    assert f"/users/{account.id}/enable" not in page
    admin.post(f"/users/{account.id}/disable")
    assert f"/users/{account.id}/enable" in admin.get(f"/users/{account.id}").text
    assert world.browser(Role.AUDITOR).post(f"/users/{account.id}/enable").status_code == 403
    assert world.browser().sign_in("clinician").status_code == 401
    unproved = admin.post(f"/users/{account.id}/enable")
    assert (unproved.status_code, "Prove that it is you" in unproved.text) == (422, True)
    assert world.browser().sign_in("clinician").status_code == 401
    assert admin.post(f"/users/{account.id}/enable", proof=PASSWORD).status_code == 303
    assert world.browser().sign_in("clinician").status_code == 302
    assert "user.enabled" in world.events()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"username": "clinician"}, "taken"),
        ({"role": "emperor"}, "Choose a role"),
        ({"username": "a b"}, "user name cannot be used"),
    ],
)
def test_bad_account_is_explained(world: World, changed: dict[str, str], sentence: str) -> None:
    """What is wrong is said at its field, and what was typed is kept, but for the proof."""
    admin = world.browser(Role.ADMINISTRATOR)
    fields = {
        "username": "joy",
        "display_name": "Joy Kept",
        "role": "clinician",
        "password": "first password",
        "proof": PASSWORD,
    }
    response = admin.post("/users", **{**fields, **changed})
    assert response.status_code == 422
    assert sentence in response.text
    assert "Joy Kept" in response.text
    assert PASSWORD not in response.text


def test_administrator_cannot_disable_themselves(world: World) -> None:
    """Somebody must be left to mend things."""
    admin = world.browser(Role.ADMINISTRATOR)
    assert admin.post(f"/users/{world.users[Role.ADMINISTRATOR].id}/disable").status_code == 422
    assert admin.get("/users").status_code == 200


def test_auditor_sees_entries_and_no_patient(world: World, patient: Patient) -> None:
    """The list shows events by pseudonym; neither name nor patient id is in it."""
    world.browser(Role.CLINICIAN).get(f"/patients/{patient.id}")
    page = world.browser(Role.AUDITOR).get("/audit").text
    assert "patient.viewed" in page
    assert world.records.audit.pseudonym(patient.id)[:16] in page
    assert CANARY not in page
    assert patient.id not in page


def test_auditor_verifies(world: World) -> None:
    """Verification says that the log is whole, and is itself recorded."""
    auditor = world.browser(Role.AUDITOR)
    assert "The log is whole." in auditor.post("/audit/verify").text
    assert "log.verified" in world.events()


def test_checkpoint_is_downloaded(world: World) -> None:
    """The checkpoint is the log's own signed note."""
    response = world.browser(Role.AUDITOR).post("/audit/checkpoint")
    assert response.headers["Content-Disposition"].startswith("attachment; filename=clinic-checkpoint-")
    assert response.text.startswith(world.records.audit.origin)
    assert world.records.audit.verify(checkpoint=response.text).ok


def test_export_opens_with_the_auditors_key_only(world: World, tmp_path: Path) -> None:
    """The export is encrypted for the key that was given, opens with it, and does not stay on the box."""
    identity = pyrage.x25519.Identity.generate()
    auditor = world.browser(Role.AUDITOR)
    size = world.records.audit.head().size
    response = auditor.post("/audit/export", recipient=str(identity.to_public()), proof=PASSWORD)
    assert response.status_code == 200
    assert response.data.startswith(b"age-encryption.org/v1")
    export = tmp_path / "log.age"
    export.write_bytes(response.data)
    assert open_export(export, str(identity)).manifest.last >= size
    assert list(world.services.config.run_dir.glob("*.age")) == []
    assert "log.exported" in world.events()


def test_export_opens_with_the_key_of_each_recipient(world: World, tmp_path: Path) -> None:
    """Several public keys, one a line or with commas: each opens it, no other; one bad line refuses all."""
    first, second, stranger = (pyrage.x25519.Identity.generate() for _ in range(3))
    auditor = world.browser(Role.AUDITOR)
    for separator in ("\r\n", ", "):
        response = auditor.post(
            "/audit/export", recipient=f"{first.to_public()}{separator}{second.to_public()}", proof=PASSWORD
        )
        assert response.status_code == 200
        export = tmp_path / "log.age"
        export.write_bytes(response.data)
        assert open_export(export, str(first)).report.ok
        assert open_export(export, str(second)).report.ok
        with pytest.raises(InputError):
            open_export(export, str(stranger))
    assert auditor.post("/audit/export", recipient=f"{first.to_public()}\nnobody", proof=PASSWORD).status_code == 422


@pytest.mark.parametrize("recipient", ["", "not a key", "age1" + "q" * 58, "AGE-SECRET-KEY-1" + "Q" * 58])
def test_export_needs_a_recipient(world: World, recipient: str) -> None:
    """Without a valid public key nothing leaves."""
    response = world.browser(Role.AUDITOR).post("/audit/export", recipient=recipient, proof=PASSWORD)
    assert response.status_code == 422
    assert "error-box" in response.text
    assert "log.exported" not in world.events()


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param("{secret}", id="alone"),
        pytest.param("  {secret}\r\n", id="with blanks"),
        pytest.param("{public}\n{secret}", id="beside a good one"),
        pytest.param("{public}{secret}", id="glued to a good one"),
        pytest.param("age1{secret}", id="with another beginning"),
        pytest.param("{lower}", id="in small letters"),
        pytest.param("age1{bare}", id="its letters as a public key"),
    ],
)
def test_a_secret_key_in_the_place_of_a_recipient_is_not_shown_again(
    world: World, spelling: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the form, not in the error, not in the log of the program or of the clinic; a good recipient stays."""
    identity = pyrage.x25519.Identity.generate()
    secret, public = str(identity), str(pyrage.x25519.Identity.generate().to_public())
    bare = secret.removeprefix("AGE-SECRET-KEY-1").lower()
    typed = spelling.format(secret=secret, public=public, lower=secret.lower(), bare=bare)
    with caplog.at_level("DEBUG"):
        response = world.browser(Role.AUDITOR).post("/audit/export", recipient=typed, proof=PASSWORD)
    assert response.status_code == 422
    entries = b"".join(entry.body for entry in world.records.audit.entries()).decode()
    for place in (response.text, str(response.headers), caplog.text, entries):
        assert bare not in place.lower()
    assert (public in response.text) == (spelling == "{public}\n{secret}")


def test_patient_is_edited_and_found(world: World, patient: Patient) -> None:
    """Details can be changed; the search finds by part of the name and by record number."""
    browser = world.browser(Role.CLINICIAN)
    form = browser.get(f"/patients/{patient.id}/edit").text
    assert 'value="1961-03-05"' in form
    changed = browser.post(f"/patients/{patient.id}", name="Quinn Marble", date_of_birth="1962-03-05")
    assert changed.status_code == 303
    page = browser.get(f"/patients/{patient.id}").text
    assert "Quinn Marble" in page
    assert "5 Mar 1962" in page
    assert "Quinn" in browser.post("/patients/search", text="marble").text


def test_record_number_is_unique(world: World, patient: Patient) -> None:
    """A second patient with the same record number is refused at the field."""
    browser = world.browser(Role.CLINICIAN)
    response = browser.post("/patients", name="Somebody", record_number=patient.data.record_number)
    assert response.status_code == 422
    assert "Another patient has this record number." in response.text
    assert 'aria-describedby="record_number-problem"' in response.text


@pytest.mark.parametrize("born", ["2999-01-01", "1700-01-01", "yesterday", "05/03/1961"])
def test_impossible_date_of_birth_is_explained(world: World, born: str) -> None:
    """A date of birth is in the past, and unambiguous."""
    response = world.browser(Role.CLINICIAN).post("/patients", name="Somebody", date_of_birth=born)
    assert response.status_code == 422
    assert "Give a date of birth in the past" in response.text


def test_password_is_changed_through_the_form(world: World) -> None:
    """A weak new password is refused with the rule."""
    browser = world.browser(Role.CLINICIAN)
    response = browser.post("/password", current=PASSWORD, password="short")
    assert response.status_code == 422
    assert "10 characters" in response.text


def test_auditor_exports_fhir(world: World) -> None:
    """The other form opens with the auditor's key, and is one AuditEvent a line for each entry; a third is refused."""
    identity = pyrage.x25519.Identity.generate()
    auditor, recipient = world.browser(Role.AUDITOR), str(identity.to_public())
    size = world.records.audit.head().size + 1  # the proof of who exports
    response = auditor.post("/audit/export", recipient=recipient, layout="fhir", proof=PASSWORD)
    assert f"clinic-audit-1-{size}.fhir.ndjson.age" in response.headers["Content-Disposition"]
    lines = pyrage.decrypt(response.data, [identity]).splitlines()
    assert len(lines) == size
    assert all(b'"resourceType":"AuditEvent"' in line for line in lines)
    assert world.events()[-1] == "log.exported"
    assert auditor.post("/audit/export", recipient=recipient, layout="pdf", proof=PASSWORD).status_code == 422


def test_a_password_set_otherwise_ends_the_code_that_waits(world: World) -> None:
    """A code made before `clinic user reset` does not undo it."""
    admin = world.browser(Role.ADMINISTRATOR)
    fields = {"username": "nurse.joy", "display_name": "Joy", "role": "clinician", "proof": PASSWORD}
    code = code_in(admin.post("/users", **fields).text)
    with world.records.write() as tx:
        tx.users.reset_password("nurse.joy", "set at the console", actor=OPERATOR)
    assert choose(world, code, "first password").status_code == 422
    assert world.browser().sign_in("nurse.joy", "set at the console").status_code == 302
    assert world.records.sweep() == ()
