"""Texts compared and counted: what differs stays different, in every script and with every sign."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.corpus import texts
from synthembed.corpus.texts import NearDuplicates, normalised, word_count, words

APART = [
    ("C++", "C#"), ("C++.", "C."), ("👍", "👎"), ("good 👍", "good"), ("-5", "5"), ("(-5)", "(5)"), ("1.5", "15"), ("A+", "A-"),
    ("great :)", "great :("), ("10²", "102"), ("½", "12"), ("50%", "50"), ("$5", "€5"), ("a<b", "a>b"), ("!", "?"), (".NET", "NET"),
    ("温度-5度", "温度5度"), ("🇩🇪", "🇫🇷"), ("2 – 1", "2 + 1"), ("no!=yes", "no=yes"),
]  # fmt: skip
ALIKE = [
    ("What is it?", "what is IT"), ("“Hello, world!”", '"hello world"'), ("你好， 世界。", "你好世界"), ("Quoi ?", "quoi"),
    ("cafe\u0301", "café"), ("ＡＢＣ", "abc"), ("ﬁne", "fine"), ("It’s", "it's"), ("(see below)", "see below"), ("\ufeffhello", "hello"),
    ("ភាសា ខ្មែរ។", "ភាសាខ្មែរ"), ("क्या है।", "क्या है"), ("Yes…", "yes"), ("❤️", "❤"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), APART)
def test_signs_and_emoji_tell_texts_apart(one, other):
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_how_a_text_is_set_does_not(one, other):
    assert normalised(one) == normalised(other)


@given(st.text())
def test_no_text_is_normalised_to_nothing(text):
    assert bool(normalised(text)) == bool(text.strip())


@given(st.text(st.characters(max_codepoint=127)))
def test_the_quick_way_for_ascii_is_the_same(text):
    assert words(text) == texts._WORD.findall(text.casefold())


def test_near_duplicates_differ_by_more_than_a_sign():
    index, sentence = NearDuplicates(0.7), "how do I sort a list of names in {} by length"
    index.seen("a", sentence.format("C++"))
    assert index.find(sentence.format("c++")) == "a" and index.find(sentence.format("C#")) is None
    assert index.find(sentence.format("C++ 👎")) is None


# Six words of each, which stand without spaces.
UNSPACED = {
    "Thai": "น้ำ ไหล ใต้ สะพาน ลม พัด", "Lao": "ນ້ຳ ໄຫຼ ກ້ອງ ຂົວ ລົມ ພັດ", "Khmer": "ទឹក ហូរ ក្រោម ស្ពាន ខ្យល់ បក់",
    "Burmese": "ရေ စီး တံတား အောက် လေ တိုက်", "Javanese": "ꦧꦚꦸ ꦩꦶꦭꦶ ꦔꦶꦱꦺꦴꦂ ꦏꦿꦺꦠꦺꦒ꧀ ꦲꦔꦶꦤ꧀ ꦩꦭꦪꦸ", "Chinese": "水流 桥下 风 吹 过 山谷",
    "Chinese, extension A": "㐀㑇 㔾㗊 㘎 㙍 㚻 㛃㛄", "Chinese, extension B": "𠀀𠂉 𠃌𠄌 𠆢 𠇑 𠈌 𠉖𠉗", "Japanese": "かわ みず ながれ はし かぜ ふく",
    "Tai Lü": "ᦓᧄᧉ ᦺᦠᦟ ᦺᦎᧉ ᦃᦽ ᦟᦳᧄ ᦗᧆ",
}  # fmt: skip


@pytest.mark.parametrize("script", UNSPACED)
def test_words_without_spaces_are_counted_and_compared(script):
    text = "".join(UNSPACED[script].split()) * 10
    assert 40 <= word_count(text) <= 150 and len(words(text)) > texts.LEAST_WORDS
    index = NearDuplicates(0.7)
    index.seen("a", text)
    assert index.find(text) == "a" and index.find("".join(reversed(text))) is None
