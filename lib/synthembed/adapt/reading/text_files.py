"""Text of files whose encoding nobody states: UTF-8, what a byte order mark or a page's head names, others by a guess.

``ground.data_files.opener`` refuses what is not UTF-8, since tables of training data bear no guess. A reader's own
folder holds texts of twenty years, so there a guess is made, and said.
"""

from __future__ import annotations

import codecs
import gzip
import io
import unicodedata
from pathlib import Path

import regex

from synthembed.adapt.reading import languages
from synthembed.adapt.reading.reasons import MOST_BYTES, too_large
from synthembed.ground.data_files.opener import DAMAGE, NOT_TEXT, ReadError

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
ESCAPES = {b"\x1b$B": "iso2022_jp", b"\x1b$@": "iso2022_jp", b"\x1b$)C": "iso2022_kr"}  # all of it is ASCII
SAMPLE, LOOKED_AT = 100_000, 2_000  # bytes that a guess is made by, and of them lines that are not ASCII
_FOREIGN = regex.compile(rb"[\x80-\xff]")
DAMAGED = 0.05  # of the signs beyond ASCII: so few may be broken in what is UTF-8 all the same

_WESTERN = (
    "AFRIKAANS ALBANIAN BASQUE BOKMAL CATALAN DANISH DUTCH ENGLISH ESPERANTO ESTONIAN FINNISH FRENCH GANDA GERMAN ICELANDIC "
    "INDONESIAN IRISH ITALIAN LATIN MALAY NYNORSK PORTUGUESE SHONA SOMALI SOTHO SPANISH SWAHILI SWEDISH TAGALOG TSONGA TSWANA "
    "WELSH XHOSA YORUBA ZULU"
)
_CENTRAL = "POLISH CZECH SLOVAK HUNGARIAN SLOVENE CROATIAN BOSNIAN SERBIAN ROMANIAN ALBANIAN"
_CYRILLIC = "RUSSIAN UKRAINIAN BELARUSIAN BULGARIAN SERBIAN MACEDONIAN"
# The languages that old files in an encoding are in, by lingua's names. Of two that give the same text the first is told.
USED_FOR = {
    "cp1252": _WESTERN, "cp1250": _CENTRAL, "iso8859_2": _CENTRAL, "cp1254": "TURKISH AZERBAIJANI",
    "cp1257": "LITHUANIAN LATVIAN ESTONIAN", "cp1258": "VIETNAMESE", "cp1253": "GREEK", "iso8859_7": "GREEK",
    "cp1255": "HEBREW", "cp1256": "ARABIC PERSIAN URDU", "iso8859_6": "ARABIC", "cp874": "THAI", "cp1251": _CYRILLIC,
    "koi8_r": "RUSSIAN", "koi8_u": "UKRAINIAN", "iso8859_5": _CYRILLIC, "cp866": _CYRILLIC, "cp850": _WESTERN,
    "cp852": _CENTRAL, "cp862": "HEBREW", "mac_roman": _WESTERN, "mac_cyrillic": _CYRILLIC, "mac_latin2": _CENTRAL,
    "mac_greek": "GREEK", "mac_turkish": "TURKISH", "mac_iceland": "ICELANDIC", "mac_romanian": "ROMANIAN",
    "mac_croatian": "CROATIAN BOSNIAN SLOVENE",
}  # fmt: skip
RARE = ("iso8859_5", "iso8859_6", "cp866", "cp850", "cp852", "cp862")  # and those of old Macs
# As browsers have it: what a page's head calls by the first name is written in the second, which has more signs.
WIDER = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
         "euc_kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs", "tis-620": "cp874"}  # fmt: skip
_HEAD = regex.compile(
    rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", regex.IGNORECASE
)


def text_of(path: Path) -> tuple[str, str]:
    """(text, encoding) of a file, gzipped or not; the encoding is "" for UTF-8, the only one that is not told.

    Raises ReadError for a damaged file, for what is no text by its first bytes, and for bytes that are text in no
    encoding; Unreadable for one that unpacks to too much.
    """
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(MOST_BYTES + 1)
        except DAMAGE as error:
            raise ReadError(f"{path.name} is cut off or damaged (gzip: {error}): get it again") from None
        if len(raw) > MOST_BYTES:  # a thousandth of it may lie on the disk
            raise too_large(MOST_BYTES)
    for magic, said in NOT_TEXT.items():
        if raw.startswith(magic) and not said.startswith("is UTF-"):
            raise ReadError(f"{path.name} {said}")
    text, encoding = _decoded(raw)
    if text is None or "\0" in text:
        raise ReadError(f"{path.name} is binary")
    return text, encoding


def _decoded(raw: bytes) -> tuple[str | None, str]:
    mark = next((name for sign, name in MARKS.items() if raw.startswith(sign)), "")
    escaped = next((name for sign, name in ESCAPES.items() if sign in raw[:SAMPLE]), "")
    for name in (mark, escaped, "utf-8", declared(raw)):
        try:
            if name:
                return raw.decode(name), "" if name.startswith("utf-8") else name
        except UnicodeDecodeError:
            continue
    text = raw.decode("utf-8", "replace")
    lost, foreign = text.count("\ufffd"), sum(not sign.isascii() for sign in text)
    if not mark and lost < DAMAGED * foreign and "\0" not in text:
        return text, f"damaged UTF-8 ({lost} signs lost)"
    encoding = guessed(raw)
    return (raw.decode(encoding, "replace"), encoding) if encoding else (None, "")


def declared(raw: bytes) -> str:
    """The encoding that the head of a page names, "" if it names none that there is."""
    if not (found := _HEAD.search(raw[:4_096])):
        return ""
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
    except (LookupError, UnicodeDecodeError):
        return ""
    old = name.startswith(("cp", "iso8859", "koi8", "euc", "gb", "big5", "shift", "mac", "tis", "johab"))
    return (
        WIDER.get(name, name.replace("-", "_")) if old else ""
    )  # a page whose head can be read is not in UTF-16


def guessed(raw: bytes) -> str:
    """The encoding that bytes are probably in, "" if they are text in none.

    charset-normalizer tells text from what is none, and the encodings of East Asia from each other. Those of one
    byte a letter it takes for their neighbours where a text is short; of them, that one is meant whose reading is in a
    language that it is used for, and looks most like it.
    """
    import charset_normalizer

    foreign = _FOREIGN.search(raw)  # what is ASCII up to there tells nothing
    begin = max(0, raw.rfind(b"\n", 0, foreign.start())) if foreign and foreign.start() > SAMPLE // 2 else 0
    sample = raw[begin : begin + SAMPLE]
    if len(raw) > begin + SAMPLE and (end := sample.rfind(b"\n")) > 0:
        sample = sample[:end]  # not within a character
    best = charset_normalizer.from_bytes(sample).best()
    if best is None or "\0" in str(best):
        return ""
    if best.multi_byte_usage and _east_asian(str(best)):
        return "euc_jp" if _kana(sample) else best.encoding
    return _of_one_byte(sample) or best.encoding


_SIGN = r"[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]"
_SIGNS, _HIRAGANA = regex.compile(_SIGN), regex.compile(r"\p{Hiragana}")
_UNUSUAL = regex.compile(rf"{_SIGN}(?=[A-Za-z])|(?<=[A-Za-z]){_SIGN}|[\uff61-\uff9f]")


def _east_asian(text: str) -> bool:
    """Whether a text reads as one of East Asia: two accents side by side are a character there, but within a word."""
    return len(_UNUSUAL.findall(text)) < 0.3 * len(_SIGNS.findall(text))


def _kana(raw: bytes) -> bool:
    """Whether bytes are Japanese in EUC, which is Korean of a kind as well."""
    try:
        text = raw.decode("euc_jp")
    except UnicodeDecodeError:
        return False
    return len(_HIRAGANA.findall(text)) > 0.2 * len(_SIGNS.findall(text))


_CAMEL = regex.compile(r"\p{Ll}\p{Lu}")
_PUNCTUATION = "„“”‚‘’–—…«»°§€№·¿¡©®ªº\u00a0΄"
_ODD = regex.compile(
    rf"[^\p{{L}}\p{{M}}\p{{N}}\p{{ASCII}}{_PUNCTUATION}]|(?<=\p{{L}})[„“‚«°§€№¿¡©®ªº](?=\p{{L}})|(?<!\p{{L}}\p{{M}}*)\p{{M}}"
    r"|(?<=\p{Ll})[–…](?=\p{Ll})"
)


def _of_one_byte(raw: bytes) -> str:
    """The likeliest encoding of one byte a letter, "" if the bytes are in no language in any of them."""
    mac = b"\r" in raw and b"\n" not in raw  # the line ends of old Macs
    telling = b"\n".join(line for line in raw.splitlines() if not line.isascii())[:LOOKED_AT]
    readings: dict[str, list[str]] = {}
    for encoding in USED_FOR:
        try:
            reading = unicodedata.normalize("NFC", telling.decode(encoding))
            readings.setdefault(reading, []).append(encoding)
        except UnicodeDecodeError:
            continue
    faults = {text: _faults(text) for text in readings}
    plain, _ = languages.surely(telling.decode("ascii", "ignore"))  # much of a Latin language is ASCII
    likely: tuple[float, str] = (-9.0, "")
    for text, encodings in readings.items():
        if faults[text] > min(faults.values()) + 1:
            continue
        language, sure = languages.surely(text)
        for encoding in encodings:
            if language in USED_FOR[encoding].split():
                likeness = sure * _likeness(text) - faults[text] + 0.1 * (language == plain)
                of_mac = encoding.startswith("mac_")
                likeness -= 0.1 * (encoding in RARE or of_mac != mac)
                likely = max(likely, (likeness, encoding), key=lambda pair: pair[0])
    return likely[1]


def _faults(text: str) -> float:
    """What words do not have, per word: capitals behind small letters, signs within, a text all in capitals."""
    words = max(1, len(text.split()))
    capitals = sum(map(str.isupper, text)) / max(1, sum(map(str.isalpha, text)))
    return (len(_CAMEL.findall(text)) + 3 * len(_ODD.findall(text))) / words + 0.3 * capitals


def _likeness(text: str) -> float:
    """How common a text's letters are in the language that they are likest to, 0 to 1, less its mess."""
    from charset_normalizer.cd import coherence_ratio
    from charset_normalizer.md import mess_ratio

    found = coherence_ratio(text)
    return (found[0][1] if found else 0.0) - mess_ratio(text)
