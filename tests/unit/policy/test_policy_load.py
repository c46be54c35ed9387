"""The load gate: a policy set is loaded whole and checked, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clinic.errors import PolicyError
from clinic.policy.load import PolicySet, check
from tests.unit.policy.policy_samples import POLICIES, schema_text, small_policy_set

BAD = sorted((POLICIES / "tests" / "bad").glob("*.cedar"))


def copied(tmp_path: Path) -> Path:
    """Copy the policies that ship, without their tests."""
    return Path(shutil.copytree(POLICIES, tmp_path / "policies", ignore=shutil.ignore_patterns("tests")))


def test_shipped_policies_pass_the_load_gate() -> None:
    """The policies that ship load, and every one has a message for the clinician."""
    loaded = check(POLICIES)
    assert len(loaded.policies) >= 19
    assert all(len(info.message) > 20 for info in loaded.policies.values())


@pytest.mark.parametrize("fixture", BAD, ids=lambda path: path.stem)
def test_bad_policy_is_refused_with_file_and_problem(fixture: Path, tmp_path: Path) -> None:
    """One bad file refuses the whole set, and the error names the file and the problem."""
    folder = copied(tmp_path)
    expected = fixture.read_text(encoding="utf-8").splitlines()[0].removeprefix("// expect: ")
    shutil.copy(fixture, folder / f"zz_{fixture.name}")
    with pytest.raises(PolicyError) as caught:
        PolicySet.load(folder)
    assert caught.value.code == "policy_invalid"
    assert fixture.name in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_copied_policies_load_without_a_bad_file(tmp_path: Path) -> None:
    """Negative control: the same copy without a bad file loads, and under the same hash."""
    assert PolicySet.load(copied(tmp_path)).sha256 == PolicySet.load(POLICIES).sha256


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    """A folder without policies is no policy set."""
    (tmp_path / "schema.cedarschema").write_text(schema_text())
    with pytest.raises(PolicyError, match="no policy that permits"):
        PolicySet.load(tmp_path)


def test_missing_schema_is_refused(tmp_path: Path) -> None:
    """Without a schema nothing loads: an erring policy would be skipped in silence."""
    (tmp_path / "a.cedar").write_text(small_policy_set())
    with pytest.raises(PolicyError, match=r"`schema\.cedarschema`: there is no such file"):
        PolicySet.load(tmp_path)


def test_broken_schema_is_refused() -> None:
    """A schema that does not parse is named."""
    with pytest.raises(PolicyError, match=r"`schema\.cedarschema`"):
        PolicySet.from_sources("entity User", [("a.cedar", small_policy_set())])


def test_schema_that_demands_nothing_is_refused() -> None:
    """A schema under which a question without facts gets an answer would let a forbid vanish."""
    lax = schema_text().split("type Facts")[0] + (
        "action generate;\naction draft_note, summarise_dictation in [generate] "
        "appliesTo { principal: [User], resource: [Encounter], context: {} };"
    )
    with pytest.raises(PolicyError, match="without facts was answered"):
        PolicySet.from_sources(lax, [("a.cedar", small_policy_set())])


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A policy file that is not UTF-8 is named, not skipped."""
    folder = copied(tmp_path)
    (folder / "zz.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match=r"`zz\.cedar`: cannot be read"):
        PolicySet.load(folder)


def test_hash_ignores_line_endings_and_trailing_space(tmp_path: Path) -> None:
    """The hash names what the policies say, not how an editor saved them."""
    folder = copied(tmp_path)
    for path in folder.glob("*.cedar"):
        path.write_bytes(path.read_text(encoding="utf-8").replace("\n", "  \r\n").encode() + b"\r\n\r\n")
    assert PolicySet.load(folder).sha256 == PolicySet.load(POLICIES).sha256


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("speech.cedar", "< 20", "< 21", id="a limit"),
        pytest.param("consent.cedar", "// Nobody", "// Somebody", id="a comment"),
        pytest.param("schema.cedarschema", "// Who and why.", "// Why.", id="the schema"),
    ],
)
def test_hash_changes_with_every_word(file: str, old: str, new: str, tmp_path: Path) -> None:
    """Any change of wording gives another hash."""
    folder = copied(tmp_path)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    assert PolicySet.load(folder).sha256 != PolicySet.load(POLICIES).sha256


def test_hash_changes_when_a_file_is_renamed_or_removed(tmp_path: Path) -> None:
    """Which files there are belongs to the hash."""
    folder = copied(tmp_path)
    (folder / "length.cedar").rename(folder / "lengths.cedar")
    renamed = PolicySet.load(folder).sha256
    (folder / "lengths.cedar").unlink()
    removed = PolicySet.load(folder).sha256
    assert len({renamed, removed, PolicySet.load(POLICIES).sha256}) == 3


def test_messages_cover_policies_and_the_engines_own_reasons() -> None:
    """Whoever shows a denial finds words for every code."""
    messages = PolicySet.load(POLICIES).messages
    assert {"consent-refused", "request_invalid", "no_permit", "policy_error"} <= set(messages)


def test_repr_shows_no_internals() -> None:
    """The value prints as its hash and policies, not as handles."""
    assert "_handle" not in repr(PolicySet.from_sources(schema_text(), [("a.cedar", small_policy_set())]))
