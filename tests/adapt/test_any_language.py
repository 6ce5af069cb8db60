"""The filters and BM25 on texts of many languages: what is right stays, what is wrong goes for its own reason."""

import numpy as np
import pytest
from synthembed import profile
from synthembed.adapt import measuring, queries, refusals, selection
from synthembed.adapt.reading import documents, languages, passages

REFUSALS = [
    "Lo siento, pero no puedo ayudar con esa solicitud.", "Przepraszam, ale nie mogę pomóc w tej sprawie.",
    "Üzgünüm, ancak bu konuda yardımcı olamam.", "Xin lỗi, tôi không thể giúp bạn việc này.",
    "क्षमा करें, मैं इस अनुरोध में मदद नहीं कर सकता।", "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Извините, но я не могу помочь с этим запросом.", "אני מצטער, אבל אני לא יכול לעזור בבקשה זו.",
    "Maaf, saya tidak dapat membantu permintaan ini.", "Λυπάμαι, αλλά δεν μπορώ να βοηθήσω με αυτό το αίτημα.",
    "Samahani, siwezi kusaidia na ombi hili.", "Olen pahoillani, mutta en voi auttaa tässä pyynnössä.",
    "দুঃখিত, আমি এই অনুরোধে সাহায্য করতে পারছি না।", "ይቅርታ፣ በዚህ ጥያቄ ልረዳዎ አልችልም።", "I’m sorry, but I can’t help with that.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.", "申し訳ありませんが、そのご要望にはお応えできません。", "عذراً، لا أستطيع المساعدة في هذا الطلب.",
]  # fmt: skip
NONE = [
    "Lo siento, la piscina está cerrada hoy.", "Leider ist das Freibad im Winter geschlossen.", "No puedo abrir la puerta del garaje",
    "К сожалению, рынок в среду закрыт.", "죄송합니다만 도서관은 어디인가요?", "Maaf, di mana pasar?", "je ne peux pas ouvrir le portail",
    "すみません、図書館は何時に開きますか", "क्षमा पत्र कहाँ जमा होता है?", "Η λυπάμαι είναι ρήμα",
]  # fmt: skip


def fault(query, body, negative="—"):
    return selection.fault(queries.Example("i", "short-long", "t", "", "", query, body, negative))


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_known_in_its_language(text):
    assert refusals.is_refusal(text)
    assert fault(text, "x") == fault("where is it?", "x", text) == "refusal phrase"


@pytest.mark.parametrize("text", NONE)
def test_an_apology_or_an_inability_alone_is_no_refusal(text):
    assert not refusals.is_refusal(text)


def test_a_query_of_many_passages_is_of_none():
    """A refusal in a language that nobody foresaw, say."""
    found = passages.split([
        documents.Document(str(n), "", " ".join(f"number{n * 100 + k}" for k in range(9))) for n in range(30)
    ])  # fmt: skip
    asked = {a.custom_id: a for a, _ in queries.requests(found, profile.load("adapt"))}
    examples = [
        queries.Example(i, "short-long", "t", "", "", "Ek pa kapab ede w" if n % 5 == 0 else f"query {n}?", a.passage.text, "none")
        for n, (i, a) in enumerate(asked.items())
    ]  # fmt: skip
    picked = selection.select(examples, asked, found, 0.2, 1, None, 0)
    assert picked.drops.counts == {"query written for 3 passages or more": 6}


COPIED = {  # a passage, keywords that it has as well, and a part of it
    "Vietnamese": ("Bảo tàng thủy tinh trưng bày lò nung thế kỷ mười tám. Chủ nhật cuối tháng vào cửa tự do.", "bảo tàng thủy tinh", "Chủ nhật cuối tháng vào cửa tự do"),
    "Korean": ("수요일 장은 큰 광장의 처마 밑에 선다. 꿀과 두부, 제철 채소를 판다.", "꿀", "꿀과 두부, 제철 채소를 판다."),
    "Amharic": ("የረቡዕ ገበያ በትልቁ አደባባይ ቅስቶች ሥር ይቆማል። ማርና የወቅቱ አትክልት ይሸጣል።", "ማር", "ማርና የወቅቱ አትክልት ይሸጣል።"),
    "Hindi": ("बुधवार की हाट बड़े चौक के बरामदों में लगती है। वहाँ शहद और मौसमी सब्ज़ियाँ मिलती हैं।", "मौसमी सब्ज़ियाँ", "वहाँ शहद और मौसमी सब्ज़ियाँ मिलती हैं"),
    "Turkish": ("Çarşamba pazarı büyük meydanda kurulur. Tezgâhlar bir buçukta toplanır.", "Çarşamba pazarı", "Tezgâhlar bir buçukta toplanır"),
}  # fmt: skip


@pytest.mark.parametrize("language", COPIED)
def test_keywords_are_no_copies_and_copies_are(language):
    body, keywords, part = COPIED[language]
    assert fault(keywords, body) == "" and fault(part, body) == "query copied from the passage"
    assert fault("?!", body) == "query has no words"


INFLECTED = {  # passages, and queries that share no whole word with theirs
    "Polish": (["Książki wypożycza się na cztery tygodnie.", "Rowery jadą promem za darmo.", "Targ rozkłada się pod podcieniami."],
               ["wypożyczenie książek", "promy dla rowerzystów", "targi w podcieniach"]),
    "Turkish": (["İlçe kütüphanesi salıları açılır.", "Vapurlar gölden geçer.", "Fırında ekmek satılır."],
                ["ilçedeki kütüphanelerin", "vapurla gölde", "ekmekleri fırından"]),
    "Finnish": (["Kirjat lainataan neljäksi viikoksi.", "Polkupyörät kulkevat lossilla.", "Torilla myydään hunajaa."],
                ["kirjojen lainaaminen", "polkupyörien lossit", "hunajan myyjät torin"]),
    "Hebrew": (["הסְפָרִים מושאלים לשבועות.", "המעבורת חוצה את האגם.", "בשוק מוכרים דבש."], ["ספר והשאלה", "מעבורות באגמים", "שווקים עם דבשים"]),
    "Korean": (["도서관에서 책을 빌려준다.", "나룻배가 호수를 건넌다.", "시장에서 두부를 판다."], ["도서관은", "호수의 나룻배", "두부 시장"]),
    "Greek": (["Η ΒΙΒΛΙΟΘΗΚΗ ΔΑΝΕΙΖΕΙ.", "Το πορθμείο διασχίζει τη λίμνη.", "Η αγορά στήνεται Τετάρτη."], ["βιβλιοθήκες που δανείζουν", "πορθμεία στις λίμνες", "αγορές Τετάρτης"]),
}  # fmt: skip


@pytest.mark.parametrize("language", INFLECTED)
def test_bm25_finds_words_whose_endings_changed(language):
    texts, asked = INFLECTED[language]
    found = passages.split([documents.Document(str(n), "", text) for n, text in enumerate(texts)])
    scores = measuring.by_bm25(found)(asked, "")
    assert scores.argmax(1).tolist() == [0, 1, 2] and np.all(scores.max(1) > 0)


def test_bm25_of_english_is_of_words():
    text = "The library lends books for four weeks, and the ferry carries bicycles across the lake at no charge. "
    found = passages.split([documents.Document(str(n), "", text * 2 + str(n)) for n in range(3)])
    assert (
        measuring.by_bm25(found)(["bicycle"], "").max()
        == 0
        < measuring.by_bm25(found)(["bicycles"], "").max()
    )


def test_a_collection_is_told_by_its_language_or_its_script():
    assert languages.told_of([COPIED["Hindi"][0] * 2]) == "taken for Hindi"
    assert languages.told_of([COPIED["Amharic"][0] * 3]) == "in Ethiopic script"
    assert languages.told_of(["12 34"]) == ""
