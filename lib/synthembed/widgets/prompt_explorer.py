"""A request chosen by its properties: the prompt that they make, the reply that came, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets

from synthembed.ground.console import counted
from synthembed.profile.taxonomy import FAMILIES, LANGUAGES, PLACEHOLDERS
from synthembed.widgets.explorer import Explorer

ANY = "any"
PRE = "white-space:pre-wrap;max-width:60em;line-height:1.35"


def matching(items: Sequence, family: str, language: str, placeholders: Mapping[str, str]) -> list:
    """Items of one family and language (or any) whose placeholders have the given values, as text."""
    return [
        item
        for item in items
        if item.family == family
        and language in (ANY, item.language)
        and all(str(dict(item.placeholders).get(k)) == v for k, v in placeholders.items() if v != ANY)
    ]


def prompts(
    items: Sequence,
    rendered: Callable[[object], str],
    reply_of: Callable[[object], str],
    faults: Callable[[str, object], list[str]],
    family: str = "short-long",
    language: str = "en",
    placeholders: Mapping[str, str] | None = None,
    number: int = 0,
) -> Explorer:
    """The requests of a run, by family, language and placeholders; the last four arguments are the controls' first
    values.

    ``items`` are generation.items.Item of step 2. ``rendered`` gives an item's prompt, ``reply_of`` the text that
    came for it ("" if none), and ``faults`` what is wrong with a text as a reply to it. The reply can be edited:
    what its schema says of it is shown as it is written.
    """
    items = sorted(items, key=lambda item: item.number)
    families = [f for f in FAMILIES if any(item.family == f for item in items)]
    family = family if family in families else families[0]
    names = list(dict.fromkeys(name for f in families for name in PLACEHOLDERS[f]))
    given = {name: str(value) for name, value in (placeholders or {}).items()}
    spoken = sorted({item.language for item in items}, key=LANGUAGES.get)
    pick = ipywidgets.Dropdown(options=families, value=family, description="family")
    tongue = ipywidgets.Dropdown(
        options=[(ANY, ANY), *((LANGUAGES[code], code) for code in spoken)],
        value=language if language in spoken else ANY, description="language",
    )  # fmt: skip
    whole = {"description_width": "initial"}  # names of placeholders are long
    slots = {
        name: ipywidgets.Dropdown(options=[ANY], value=ANY, description=name, style=whole) for name in names
    }
    which = ipywidgets.BoundedIntText(value=number, min=0, max=len(items), description="number")
    reply = ipywidgets.Textarea(description="reply", layout={"width": "60em", "height": "11em"})
    seen: dict = {"family": None, "item": None, "settled": True}

    def offer(family: str) -> None:
        """The placeholders of a family, with the values that this run has drawn."""
        for name, slot in slots.items():
            drawn = {dict(item.placeholders).get(name) for item in items if item.family == family} - {None}
            slot.layout.display = None if drawn else "none"
            wanted = given.get(name, ANY)
            slot.options = [ANY, *map(str, sorted(drawn, key=str))]
            slot.value = wanted if wanted in slot.options else ANY

    def draw(*_) -> str:
        if not seen["settled"]:
            return ""  # the controls are being set, and it is drawn again when they are
        if pick.value != seen["family"]:
            seen.update(family=pick.value, settled=False)
            offer(pick.value)
            seen["settled"] = True
        wanted = {name: slot.value for name, slot in slots.items()}
        found = matching(items, pick.value, tongue.value, wanted)
        if not found:
            return "<p>No request of this run has all of these properties: choose <i>any</i> for one of them.</p>"
        item = found[min(which.value, len(found) - 1)]
        if item is not seen["item"]:
            seen.update(item=item, settled=False)
            reply.value = reply_of(item)
            seen["settled"] = True
        wrong = faults(reply.value, item) if reply.value else ["no reply"]
        verdict = (
            '<b style="color:#00704d">The reply is what its schema asks for.</b>'
            if not wrong
            else '<b style="color:#b04a00">Not used:</b> ' + " · ".join(map(escape, wrong))
        )
        spoken = ", ".join(f"{k} = {v}" for k, v in item.placeholders) or "no placeholders"
        return (
            f"<p>{verdict}</p><p>{counted(len(found), 'such request')}; this is item {item.number}, "
            f'{LANGUAGES[item.language]}: {escape(spoken)}</p><pre style="{PRE}">{escape(rendered(item))}</pre>'
            f'<details><summary>the reply</summary><pre dir="auto" style="{PRE}">{escape(reply.value)}</pre></details>'
        )

    return Explorer([pick, tongue, *slots.values(), which, reply], draw)
