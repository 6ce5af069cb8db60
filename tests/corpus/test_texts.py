"""Texts compared and counted: what differs stays different, in every script and with every sign."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.corpus import texts
from synthembed.corpus.texts import NearDuplicates, longest_copied_run, normalised, word_count, words

APART = [
    ("C++", "C#"), ("C++.", "C."), ("👍", "👎"), ("good 👍", "good"), ("-5", "5"), ("(-5)", "(5)"), ("1.5", "15"), ("A+", "A-"),
    ("great :)", "great :("), ("10²", "102"), ("½", "12"), ("50%", "50"), ("$5", "€5"), ("a<b", "a>b"), ("!", "?"), (".NET", "NET"),
    ("温度-5度", "温度5度"), ("🇩🇪", "🇫🇷"), ("🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"), ("2 – 1", "2 + 1"), ("no!=yes", "no=yes"),
]  # fmt: skip
ALIKE = [
    ("What is it?", "what is IT"), ("“Hello, world!”", '"hello world"'), ("你好， 世界。", "你好世界"), ("Quoi ?", "quoi"),
    ("cafe\u0301", "café"), ("ＡＢＣ", "abc"), ("ﬁne", "fine"), ("It’s", "it's"), ("(see below)", "see below"), ("\ufeffhello", "hello"),
    ("ភាសា ខ្មែរ។", "ភាសាខ្មែរ"), ("क्या है।", "क्या है"), ("Yes…", "yes"), ("❤️", "❤"),
    ("كتـــاب", "كتاب"), ("İSTANBUL'DA ISLAK", "İstanbul'da ıslak"), ("ΤΑΪ́ΖΩ", "ταΐζω"), ("ｅ\u0301", "é"), ("ሰላም፡ለዓለም", "ሰላም ለዓለም"),
    ("Ի՞նչ է սա", "ինչ է սա"), ("мʼята", "м'ята"), ("Oʻzbek", "O‘zbek"), ("צה״ל", 'צה"ל'), ("e\u2011mail", "e-mail"), ("\u22125", "-5"),
    ("ναι\u0387", "ναι"), ("hello\u3164", "hello"), ("he\u034fllo", "hello"), ("ក\u17b4ខ", "កខ"),
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


SENTENCES = {
    "how": "how do honey bees find their way home after a long flight over the hills",
    "Vietnamese": "Làm thế nào để nấu món phở bò ngon tại nhà cho gia đình bốn người vào cuối tuần",
    "Korean": "서울에서 부산까지 기차로 가는 가장 빠른 방법과 표를 사는 방법을 알려 주세요",
    "Persian": "من می\u200cخواهم کتاب\u200cهای تازه درباره تاریخ بخوانم و نمی\u200cدانم از کجا باید آغاز کنم",
    "Sinhala": "ශ්\u200dරී ලංකාවේ ප්\u200dරධාන නගර අතර දුම්රිය ගමන් කරන ආකාරය මට කියා දෙන්න",
    "Turkish": "İstanbul'da yaşayan biri için iyi bir iş bulmanın ve ısınmanın yolu nedir",
    "Armenian": "Ի՞նչ է անհրաժեշտ լավ գիրք գրելու և այն տպելու համար այսօր",
}
SET_OTHERWISE = {
    "apart": lambda t: unicodedata.normalize("NFD", t), "unseen": lambda t: re.sub(r"(?<=\w)(?=\w)", "\u2060", t),
    "hyphens": lambda t: t.replace("e", "e\u00ad"), "filler": lambda t: t.replace(" ", "\u3164 "), "no joiners": lambda t: re.sub("[\u200c\u200d]", "", t),
    "capitals": lambda t: t.replace("i", "İ").upper(), "wide": lambda t: re.sub("[a-z]", lambda m: chr(ord(m[0]) + 0xFEE0), t),
    "no marks": lambda t: t.replace("\u055e", ""),
}  # fmt: skip


@pytest.mark.parametrize("way", SET_OTHERWISE)
@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_that_is_set_otherwise_is_the_same_copied_and_near(language, way):
    text = SENTENCES[language]
    other = SET_OTHERWISE[way](text)
    assert normalised(other) == normalised(text) and word_count(other) == word_count(text)
    assert longest_copied_run(other, text) == 1.0
    index = NearDuplicates(0.7)
    index.seen("a", text)
    assert index.find(other) == "a"


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
