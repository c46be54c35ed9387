"""Names of drugs by their sound, and the second hearing that puts them where they were said."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from clinic.domain import Word
from clinic.errors import ConfigError
from clinic.speech import names as names_module
from clinic.speech.decode import decode
from clinic.speech.guards import Span
from clinic.speech.names import Names, frame, read_formulary, sound
from clinic.speech.second_hearing import LONGEST_S, MOST_NAMES, hear_again
from clinic.speech.whisper import WhisperTranscriber
from clinic.verification.vocabulary import drug_names
from clinic.weights import WHISPER_BASE, assemble
from tests.conftest import MODELS

TABLE = [name for name in drug_names() if " " not in name]
MISHEARD = Path(__file__).with_name("misheard.flac")
"""`Let us switch you from metolazone to candesartan, once a day`: by tests/benchmarks/make_drug_sentences.spoken."""
NAMES = Names(TABLE, known=("Panadol",))


def said(*words: str, at: float = 0.0, sure: float = 0.9) -> tuple[Word, ...]:
    """Return words of half a second each; `?` behind a word says that the recogniser was unsure of it."""
    return tuple(
        Word(
            text=word.replace("?", ""),
            start=at + n / 2,
            end=at + (n + 1) / 2,
            probability=0.3 if "?" in word else sure,
        )
        for n, word in enumerate(words)
    )


def text(words: Iterable[Word]) -> str:
    """Return the words as a sentence."""
    return " ".join(word.text for word in words)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (("Candice?", "Arton."), "candesartan"),
        (("Saki?", "Bikro."), "sacubitril"),
        (("Ivan", "Granite?"), "ibandronate"),
        (("lube?", "a", "crossbone"), "lubiprostone"),
        (("metaclocker?", "mine?"), "metoclopramide"),
        (("ethosuxamide?",), "ethosuximide"),
        (("hyacinamine?",), "hyoscyamine"),
        (("Cyrillimus?",), "sirolimus"),
    ],
)
def test_a_name_is_found_behind_words_that_sound_like_it(wrong: tuple[str, ...], name: str) -> None:
    """As Whisper base heard them: the name is among the few that are offered."""
    sentence = said("we", "start", *wrong, "today")
    offered = list(dict.fromkeys(c.name for c in NAMES.candidates(sentence)))[:MOST_NAMES]
    assert name in offered


def test_sounds_and_frames() -> None:
    """One letter for one sound; the frame forgets vowels and voices."""
    assert sound("Phenytoin") == "fenytoin"
    assert sound("xylo-citalopram") == "ksylositalopram"
    assert frame("vardenafil") == frame("Fartenafil")


def test_only_what_was_unsure_is_looked_at() -> None:
    """Words of which the recogniser was sure are no candidates, however much they sound like a name."""
    assert NAMES.candidates(said("we", "start", "Candice", "Arton", "today")) == ()
    assert NAMES.candidates(said("we", "start", "Candice?", "Arton", "today")) != ()


@pytest.mark.parametrize("word", ["not?", "left?", "50?", "stopped?", "twice?"])
def test_what_turns_a_sentence_round_is_never_a_piece_of_a_name(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negations, sides, numbers; negative control: without the protection some place would swallow the word."""
    sentence = said("metaclocker?", word, "mine?")
    places = [set(range(c.first, c.last + 1)) for c in NAMES.candidates(sentence)]
    assert not any(1 in place for place in places)
    monkeypatch.setattr(names_module, "_PROTECTED", frozenset())
    if word != "50?":
        assert any(1 in set(range(c.first, c.last + 1)) for c in NAMES.candidates(sentence))


@pytest.mark.parametrize("name", ["amlodipine?", "Panadol?"])
def test_a_name_that_was_heard_is_never_taken_for_another(name: str) -> None:
    """Neither one of the table nor a brand, however unsure the recogniser was; another word there would be."""
    assert NAMES.candidates(said("she", "takes", name)) == ()
    assert NAMES.candidates(said("she", "takes", "amlodapeen?")) != ()


def test_the_second_hearing_gives_names_and_nothing_else() -> None:
    """The name comes in with its times, its mark and the full stop; all other words stay as they were heard first."""
    sentence = said("Let", "us", "switch", "you", "for", "Metaline", "to", "Candice?", "Arton.")
    asked: list[tuple[Span, str]] = []

    def hear(span: Span, offered: str) -> tuple[Word, ...]:
        asked.append((span, offered))
        return said("Let", "me", "stop", "all", "of", "it", "to", "candesartan.")

    (result,) = hear_again([sentence], NAMES, hear, duration=4.6)
    assert text(result) == "Let us switch you for Metaline to candesartan."
    assert result[-1].heard_first == "Candice Arton"
    assert (result[-1].start, result[-1].end) == (3.5, 4.5)
    assert all(word.heard_first is None for word in result[:-1])
    ((span, offered),) = asked
    assert span == Span(0.0, 4.6)
    assert "candesartan" in offered.split(", ")


def test_a_name_elsewhere_or_not_offered_is_not_believed() -> None:
    """A recogniser that writes what it was told where nothing sounds like it, or another name, changes nothing."""
    sentence = said("we", "start", "Candice?", "Arton", "and", "see", "each", "other", "in", "a", "month")

    def elsewhere(_span: Span, _offered: str) -> tuple[Word, ...]:
        return said("we", "start", "well", "well", "and", "see", "each", "other", "in", "a", "candesartan")

    def other(_span: Span, _offered: str) -> tuple[Word, ...]:
        return said("we", "start", "morphine", "and", "see")

    assert hear_again([sentence], NAMES, elsewhere, duration=9) == [sentence]
    assert hear_again([sentence], NAMES, other, duration=9) == [sentence]


def test_nothing_is_heard_again_without_candidates() -> None:
    """Sentences that hold nothing like a name cost nothing."""

    def never(_span: Span, _offered: str) -> tuple[Word, ...]:
        raise AssertionError

    plain = said("I?", "slept?", "badly?", "again")
    assert hear_again([plain], NAMES, never, duration=2) == [plain]
    assert hear_again([], NAMES, never, duration=2) == []


def test_neighbours_are_heard_in_one_go_up_to_half_a_minute() -> None:
    """The recogniser looks at 30 s at a time, so sentences share a hearing as long as they fit into one."""
    sentences = [said("take", "Candice?", "Arton", at=at) for at in (0.0, 10.0, 26.0, 40.0)]
    spans: list[Span] = []

    def hear(span: Span, offered: str) -> tuple[Word, ...]:
        assert 1 <= len(offered.split(", ")) <= MOST_NAMES
        spans.append(span)
        return ()

    assert hear_again(sentences, NAMES, hear, duration=60) == sentences
    assert len(spans) == 2
    assert all(span.end - span.start <= LONGEST_S + 1 for span in spans)


def test_a_formulary_is_read(tmp_path: Path) -> None:
    """One name a line; remarks and empty lines are passed over."""
    file = tmp_path / "formulary.txt"
    file.write_text("# ours\nCoartem\n\nfansidar  # old\n", encoding="utf-8")
    assert read_formulary(file) == ("coartem", "fansidar")
    assert len(Names(read_formulary(file))) == 2


@pytest.mark.parametrize(
    ("content", "said_of"),
    [
        (b"Coartem\ntwo words\n", "line 2"),
        (b"oxy\n", "line 1"),
        (b"am0xicillin\n", "line 1"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"abcdefg\n" * 5001, "5001 names"),
    ],
    ids=["words", "short", "digit", "bytes", "many"],
)
def test_a_formulary_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, said_of: str) -> None:
    """With the line, never half of it."""
    file = tmp_path / "formulary.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said_of) as caught:
        read_formulary(file)
    assert caught.value.code == "formulary_invalid"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_formulary(tmp_path / "absent.txt")


@pytest.mark.models
@pytest.mark.parametrize("names", [NAMES, None], ids=["names", "control"])
def test_the_real_recogniser_hears_the_names(names: Names | None) -> None:
    """Both names, each with what was heard first; negative control: without a second hearing neither is there."""
    whisper = WhisperTranscriber(assemble(WHISPER_BASE, MODELS), threads=1, model_sha256="0", names=names)
    (segment,) = whisper.transcribe(decode([MISHEARD.read_bytes()], max_duration_s=60).samples, language="en").segments
    put = {word.text.strip(".,") for word in segment.words if word.heard_first}
    if names is None:
        assert put == set()
        assert not {"metolazone", "candesartan"} & set(segment.text.lower().replace(",", "").split())
    else:
        assert put == {"metolazone", "candesartan"}
        assert segment.text.startswith("Let us switch you")
        assert segment.text == " ".join(word.text for word in segment.words)


@pytest.mark.models
def test_other_languages_are_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How names sound is known for English only."""
    monkeypatch.setattr("clinic.speech.whisper.hear_again", lambda *_, **__: pytest.fail("heard again"))
    whisper = WhisperTranscriber(assemble(WHISPER_BASE, MODELS), threads=1, model_sha256="0", names=NAMES)
    sound = decode([MISHEARD.read_bytes()], max_duration_s=60).samples
    assert whisper.transcribe(sound, language="de").language == "de"
