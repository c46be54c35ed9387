"""The administrator's page: what it shows works, word for word."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from clinic.cli.policy import policy as policy_commands
from clinic.policy import golden
from clinic.policy.decision import REASONS, Redact
from clinic.policy.engine import decide
from clinic.policy.load import PolicySet
from clinic.policy.request import PolicyRequest
from tests.unit.policy.policy_samples import POLICIES

README = (POLICIES / "README.md").read_text(encoding="utf-8")


def block(language: str, *, containing: str) -> str:
    """Return the code block of the page in that language which holds those words."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(b for b in blocks if containing in b)


def test_page_names_every_file_and_every_reason() -> None:
    """The tables are complete."""
    assert all(f"`{path.name}`" in README for path in POLICIES.glob("*.cedar*"))
    assert all(f"`{code}`" in README for code in REASONS)


def test_request_of_the_page_is_allowed() -> None:
    """The example request has every key and is released."""
    request = PolicyRequest.from_json(block("json", containing="actor"))
    assert isinstance(decide(PolicySet.load(POLICIES), request), Redact)


def test_policy_of_the_page_is_the_one_that_ships() -> None:
    """The example of how a policy reads is in the files, word for word."""
    assert block("cedar", containing="too-few-words") in (POLICIES / "speech.cedar").read_text(encoding="utf-8")


def test_steps_of_the_page_work(tmp_path: Path) -> None:
    """Changing the limit as described fails a case, mending the cases passes, and so does the added rule."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    speech, cases = folder / "speech.cedar", folder / "tests" / "speech.toml"
    speech.write_text(speech.read_text(encoding="utf-8").replace("context.words < 20", "context.words < 12"))
    assert len(golden.run(folder).failures) == 1
    text = (
        cases.read_text(encoding="utf-8")
        .replace("words = 20\n", "words = 12\n")
        .replace("words = 19\n", "words = 11\n")
    )
    cases.write_text(text)
    assert golden.run(folder).passed
    (folder / "duration.cedar").write_text(block("cedar", containing="recording-too-long"))
    head = (folder / "tests" / "consent.toml").read_text(encoding="utf-8").split("[[case]]")[0]
    (folder / "tests" / "duration.toml").write_text(head + block("toml", containing="90 minutes"))
    assert golden.run(folder).passed


def test_optional_hours_work_as_described(tmp_path: Path) -> None:
    """The optional rule, copied as the page says, passes with its cases; without them it is called untested."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    shutil.copy(folder / "optional" / "hours.cedar", folder)
    assert golden.run(folder).untested == ("outside-hours",)
    shutil.copy(folder / "optional" / "hours.toml", folder / "tests")
    assert golden.run(folder).passed


def test_every_command_of_the_page_exists() -> None:
    """Whatever `clinic policy ...` the page shows is a command with those options."""
    shown = set(re.findall(r"clinic policy ([a-z]+)((?: --[a-z]+ [^ `\n]+)*)", README))
    assert {name for name, _ in shown} >= {"check", "test", "activate", "list", "rollback", "pins", "explain"}
    for name, options in shown:
        known = {option for parameter in policy_commands.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", options)) <= known
