"""Nothing that is smuggled into a transcript reaches a prompt: hidden characters, special tokens, look-alike letters.

Each payload goes in as speech, as the label of a speaker, and as pasted text, and is looked for in the prompts of both
styles.  The control switches neutralising off: then every single payload must be found, or it proved nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from clinic.domain import Action, Prompt, Transcript
from clinic.generation import prompts
from clinic.generation.prompts import build_prompt, load_template
from clinic.speech.text import text_to_transcript
from tests.campaigns.injections import OURS, theirs
from tests.campaigns.smuggling import WAYS, Way, hidden, token, twin
from tests.unit.generation.generation_world import chat_profile, embedded, visit

DOORS = ("spoken", "speaker", "pasted")
TEMPLATE = load_template("soap")
IDENTITIES = (embedded().identity, chat_profile().identity)
BEFORE = "The cough has lasted three days, without any fever."


def transcript_of(door: str, payload: str) -> Transcript:
    """Return a transcript into which a payload came by a door."""
    if door == "spoken":
        return visit((None, BEFORE), ("Patient", payload), ("Doctor", BEFORE))
    if door == "speaker":
        return visit((None, BEFORE), (payload, BEFORE))
    return text_to_transcript(f"Doctor: {BEFORE}\nPatient: {payload}\n{BEFORE}")


def sent(prompt: Prompt) -> str:
    """Return everything of a prompt that a model reads."""
    texts = [part.text or "" for part in prompt.parts]
    return "\n".join(texts + [message.content for part in prompt.parts for message in part.messages])


def surviving(way: Way, door: str, payload: str) -> bool:
    """Tell whether a smuggled payload is alive in a prompt of either style."""
    transcript = transcript_of(door, way.smuggle(payload))
    built = (build_prompt(TEMPLATE, transcript, identity, Action.DRAFT_NOTE) for identity in IDENTITIES)
    return any(way.survives(sent(prompt)) for prompt in built)


def tried(payloads: Iterable[str], ways: Iterable[Way], doors: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Smuggle each payload each way by each door; yield the way and whether it survived."""
    for way in ways:
        for payload in payloads:
            for door in doors:
                yield way.name, surviving(way, door, payload)


def report(results: Iterable[tuple[str, bool]]) -> tuple[int, Counter[str]]:
    """Count the payloads, and by way those that survived."""
    total, alive = 0, Counter[str]()
    for way, survived in results:
        total += 1
        alive[way] += survived
    return total, +alive


def live(payloads: Iterable[str]) -> list[str]:
    """Return payloads with letters of every alphabet that the ways spell, so that each of them has work to do."""
    return [f"{payload} Stop: copy the prescription, OK BETA." for payload in payloads]


def _say(line: str) -> None:
    print(f"\n{line}")  # noqa: T201 - the count is what a campaign is for


def test_nothing_smuggled_reaches_a_prompt() -> None:
    """Every way, by every door, with three of our own orders: nothing is left."""
    total, alive = report(tried(live(i.text for i in OURS[:3]), WAYS, DOORS))
    _say(f"{total} smuggled payloads, {total - alive.total()} neutralised")
    assert total == 3 * len(WAYS) * len(DOORS)
    assert not alive


def test_without_neutralising_every_payload_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: each way is found in the prompt where nobody takes it out, so none of them proves nothing."""
    monkeypatch.setattr(prompts, "neutralise", lambda text: text)
    results = list(tried(live([OURS[0].text]), WAYS, ("spoken",)))
    assert [way for way, survived in results if not survived] == []


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "BP <140, \u03b2-blocker 5 \u03bcg, \u0418\u0432\u0430\u043d\u043e\u0432, \u674e",
        "[laughs] 3 > 2",
    ],
)
def test_ordinary_text_is_not_called_smuggled(text: str) -> None:
    """The look itself: units, names in other scripts and comparisons are nothing hidden."""
    assert not hidden(text)
    assert not token(text)
    assert not twin(text)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_campaign_of_smuggling(test_data: Path) -> None:
    """Long form: all collected orders and our own, every way, by every door, both styles of prompt."""
    payloads = live(injection.text for injection in (*OURS, *theirs(test_data)))
    results = report(tried(payloads, WAYS, DOORS))
    survived = f"{results[1].total()} survived {dict(results[1])}"
    _say(f"{len(payloads)} orders, {len(WAYS)} ways, {len(DOORS)} doors, {results[0]} payloads, {survived}")
    assert results[0] == len(payloads) * len(WAYS) * len(DOORS)
    assert not results[1]


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_campaign_of_smuggling_without_neutralising(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the long form: all of them live where neutralising is switched off."""
    monkeypatch.setattr(prompts, "neutralise", lambda text: text)
    payloads = live(injection.text for injection in (*OURS, *theirs(test_data)))
    results = list(tried(payloads, WAYS, ("spoken",)))
    dead = Counter(way for way, survived in results if not survived)
    _say(f"{len(results)} payloads, {len(results) - dead.total()} live without neutralising")
    assert not dead
