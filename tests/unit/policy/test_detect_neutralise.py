"""Neutralise: nothing hidden, nothing that a model reads as structure, and the words as they were."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.domain import Segment, Transcript, Word
from clinic.policy.detectors.neutralise import neutralise, neutralise_transcript

TOKENS = [
    "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<unused12>", "<start_of_image>",
    "<|turn>", "<turn|>", "<|tool_call>", "<tool_call|>", "<|think|>", "<|image|>", '<|"|>', "<|im_start|>",
    "<|endoftext|>",
    "<s>", "</s>", "<<SYS>>", "[INST]", "[/INST]", "[multimodal]", "<h1>", "<!-- x -->", "<?xml ?>",
]  # fmt: skip


@pytest.mark.parametrize("token", TOKENS)
def test_special_tokens_do_not_survive(token: str) -> None:
    """No special token survives, not even put together from pieces that hide something inside."""
    for text in (token, f"a{token}b", token.replace("t", "t\u200b"), "\U000e0041".join(token), f"<{token}>"):
        assert token not in neutralise(text)


@pytest.mark.parametrize(
    "text",
    [
        "BP <140 and >90, HR < 60, temp >38.5 -> review",
        "Müller, Иванов, Παπαδόπουλος, 李小龙, محمد",
        "5 μg of β-blocker, H₂O, 37 °C, ½ tablet",
        "می\u200cخواهم",  # noqa: RUF001 - Persian needs its joiner
        "क्\u200dष",  # so does Hindi
        "line one\nline two\tend",
        "[laughs] (points at knee) {left}",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Comparisons, other scripts and their joiners, units and brackets are untouched."""
    assert neutralise(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        pytest.param("a\U000e0068\U000e0069b", "ab", id="tags"),
        pytest.param("a\u202eb\u202c\u2066c\u2069", "abc", id="bidi"),
        pytest.param("a\u200b\u200c\u200d\u2060\ufeff\u00adb", "ab", id="zero width"),
        pytest.param("a\x00\x07\x1b[31mb\x1b[0m\x1b]0;title\x07c\x9b2Jd", "abcd", id="terminal"),
        pytest.param("a\ufe0fb\U000e0100", "ab", id="variation selectors"),
        pytest.param("\u0406gn\u043er\u0435", "Ignore", id="look-alikes"),
        pytest.param("a\ud800b", "ab", id="half a character"),
    ],
)
def test_hidden_characters_are_taken_out(text: str, plain: str) -> None:
    """What nobody can see is gone, and nothing else."""
    assert neutralise(text) == plain


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from([*TOKENS, "<", ">", "|", "[", "]", "a", "\u200b", "\U000e0041", "\x1b[", "é"])).map(
        "".join
    )
)
def test_neutralising_twice_changes_nothing(text: str) -> None:
    """Once is enough: no token appears by taking something out."""
    once = neutralise(text)
    assert neutralise(once) == once
    assert not re.search(r"<\|?/?[a-z_]", once)


def test_transcript_keeps_ids_and_times() -> None:
    """Text, speaker and words are neutralised; ids, times and confidences stay."""
    word = Word(text="<bos>", start=0, end=1, probability=0.5)
    segment = Segment(id="s1", text="<bos> hi", speaker="<eos>", start=0, end=1, words=(word,))
    quiet = Segment(id="s2", text="hi")
    done = neutralise_transcript(Transcript(segments=(segment, quiet))).segments
    assert (done[0].text, done[0].speaker, done[0].words[0].text) == ("\u2039bos> hi", "\u2039eos>", "\u2039bos>")
    assert (done[0].id, done[0].end, done[1]) == ("s1", 1, quiet)
