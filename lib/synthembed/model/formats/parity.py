"""Whether another runtime gives our vectors: on texts of every script, eos and length included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthembed.ground.files import read_json
from synthembed.ground.weights.saved_models import Recipe, recipe_of
from synthembed.model import backbone as backbones
from synthembed.model.encoder import Encoder
from synthembed.profile.settings import Backbone

LEAST = 0.999  # cosine of every text
UNSAID = 512  # tokens of a text, where a model does not say how many it reads

# A sentence or two in each large script, signs, code, blanks at the ends, and one long text.
TEXTS = [
    "How do bees find their way home?", "The committee, which had met twice, put off its vote until spring.",
    "Straße, Äpfel und Übermut: das kostet 12,50 €.", "L'été dernier, j'ai traversé la forêt à vélo.",
    "Tiếng Việt có sáu thanh điệu.", "Žluťoučký kůň úpěl ďábelské ódy.", "Поезд прибывает на третий путь в полдень.",
    "Η θάλασσα ήταν ήρεμη το πρωί.", "Գիրքը սեղանի վրա է։", "წიგნი მაგიდაზე დევს.", "הספרייה פתוחה עד שמונה בערב.",
    "المكتبة مفتوحة حتى الثامنة مساءً.", "کتابخانه تا ساعت هشت باز است.", "पुस्तकालय शाम आठ बजे तक खुला है।",
    "গ্রন্থাগার রাত আটটা পর্যন্ত খোলা।", "நூலகம் இரவு எட்டு மணி வரை திறந்திருக்கும்.", "గ్రంథాలయం ఎనిమిది వరకు తెరిచి ఉంటుంది.",
    "ગ્રંથાલય આઠ વાગ્યા સુધી ખુલ્લું છે.", "ਲਾਇਬ੍ਰੇਰੀ ਅੱਠ ਵਜੇ ਤੱਕ ਖੁੱਲ੍ਹੀ ਹੈ।", "ห้องสมุดเปิดถึงสองทุ่ม", "ဒီနေ့ ရာသီဥတု သာယာတယ်။",
    "ቤተ መጻሕፍቱ እስከ ምሽት ክፍት ነው።", "图书馆开到晚上八点。", "図書館は夜八時まで開いています。", "도서관은 저녁 여덟 시까지 엽니다.",
    "def area(r):\n    return 3.14 * r ** 2\n", "🙂 fine, 👩‍🔬 too", "  two blanks before,   three within, one after ", "a",
    "Line one.\n\nLine two.\tA tab.", "x = 1234567.89; y != z && (a || b)",
    "Instruct: Given a question, retrieve passages that answer it\nQuery: when does the ferry leave",
    " ".join(f"In the year {1800 + n} the lake froze for {n % 40} days, as the warden wrote." for n in range(14)),
]  # fmt: skip


class ExportError(RuntimeError):
    """A model that a format cannot carry, or whose vectors are others there; the message says which and why."""


def read_as(folder: Path) -> Recipe:
    """How a folder says that its vectors are made, UNSAID in the place of no length. Raises ExportError for what no
    format here can carry: a check of vectors would find it too, but is not always asked for."""
    said = read_json(folder / "config.json")
    recipe = recipe_of(str(folder), positions=said.get("max_position_embeddings"))
    if recipe.refusal:
        raise ExportError(f"{folder.name} is not exported: {recipe.refusal}")
    if not (folder / "tokenizer.json").exists():
        raise ExportError(
            f"{folder.name} has no tokenizer.json, which every other runtime reads; where its tokenizer has a fast form, "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes one"
        )
    return replace(recipe, max_length=recipe.max_length or UNSAID)


def length_lost(recipe: Recipe) -> list[str]:
    """What is said of a model that leaves its vectors as long as they are."""
    return (
        [] if recipe.normalize else ["the length of vectors: the model leaves it as it is, and here it is 1"]
    )


def reference(folder: Path, texts: Sequence[str] = TEXTS) -> np.ndarray:
    """Our vectors (texts, dim), of length 1, of an exported folder in float32, under no prompt."""
    loaded = backbones.load(Backbone(model=str(folder), dtype="float32"))
    loaded = replace(loaded, recipe=replace(loaded.recipe, prompt=""))
    return Encoder(loaded).encode(list(texts), normalize=True)


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The cosine of each text's two vectors, (texts,); 0 where one is not finite or has no length."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    with np.errstate(all="ignore"):
        found = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    return np.nan_to_num(found, nan=0.0)


def check(
    folder: Path, runtime: str, encode: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str] = TEXTS
) -> float:
    """The least cosine between the vectors of ``folder`` and a runtime's, whose vectors are to have length 1.

    Raises ExportError, naming the text, where it is below LEAST.
    """
    theirs = np.asarray(encode(texts))
    found = cosines(reference(folder, texts), theirs)
    worst = int(found.argmin())
    if found[worst] < LEAST:
        raise ExportError(
            f"{runtime} has another vector for {int((found < LEAST).sum())} of {len(texts)} texts (cosine "
            f"{found[worst]:.4f} for {texts[worst][:50]!r}, and {LEAST} is the least): the export is not kept"
        )
    lengths = np.linalg.norm(theirs, axis=1)
    if abs(lengths - 1).max() > 1e-3:
        raise ExportError(
            f"{runtime} gives vectors of length {lengths.min():.3f} to {lengths.max():.3f}, and 1 is wanted"
        )
    return float(found[worst])
