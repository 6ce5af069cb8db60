"""YAML as people mean it: a key stands once, and ``no`` is Norwegian.

PyYAML keeps the last of equal keys without a word, and by YAML 1.1 takes no, 010 and 12:30 for false, 8 and
750. Here true and false alone are truth values (YAML 1.2); settings that are one still take yes and no. Python's
None is null, where YAML has a text of four letters, which a setting such as a URL would take.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
DEEPEST = 50  # levels; no setting lies deeper, and Python reads some hundreds of them
DIGITS = 300  # of a whole number; Python reads 4,300, and a float ends at 309
_OTHERWISE = [_TAG + kind for kind in ("bool", "int", "timestamp")]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in found if tag not in _OTHERWISE]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    above: tuple[str, ...] = ()  # keys on the way to the node that is read
    within: tuple[str, ...] = ()  # anchors that it lies within

    def compose_node(self, parent, index):
        """A node, if Python can hold what it says; the error names its key."""
        event, above, within = self.peek_event(), self.above, self.within
        if index is not None:
            self.above = (*above, str(getattr(index, "value", index)))
        if isinstance(event, yaml.AliasEvent) and event.anchor in within:
            self._refuse("nested without end: an alias (*) stands within its own anchor (&)", event)
        if len(self.above) > DEEPEST:
            self.above = self.above[:3]
            self._refuse(f"nested deeper than {DEEPEST} levels", event)
        if getattr(event, "anchor", None):
            self.within = (*within, event.anchor)
        node = super().compose_node(parent, index)
        digits = sum(map(str.isdigit, node.value)) if node.tag == _TAG + "int" else 0
        if digits > DIGITS:
            self._refuse(
                f"a number of {digits:,} digits: write one of {DIGITS} at most, or quote a text", event
            )
        self.above, self.within = above, within
        return node

    def _refuse(self, why: str, event):
        key = ".".join(self.above)
        raise yaml.composer.ComposerError(None, None, f"{key}: {why}" if key else why, event.start_mark)

    def construct_mapping(self, node, deep=False):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _TAG + "merge":
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                where = (
                    f"in lines {seen[key.value]} and {line}" if line > seen[key.value] else f"in line {line}"
                )
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands twice, {where}: join the two"
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"None$"), ["N"])
_Loader.add_implicit_resolver(_TAG + "int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))


def load(text: str) -> Any:
    """The value of a YAML document; raises yaml.YAMLError, also for a key that stands twice."""
    return yaml.load(text, _Loader)


def compose(text: str) -> yaml.Node | None:
    """The document as nodes, which know their lines."""
    return yaml.compose(text, _Loader)
