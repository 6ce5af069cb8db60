"""What every explorer is: controls above, what they show below, and a still picture where no kernel is.

An executed notebook is also read where widgets are not drawn (GitHub, a page without JavaScript). An Explorer
therefore hands over HTML beside its widget: what it showed when the cell ran. The arguments of each explorer are
its controls' first values, so that a run without a reader shows what it is told to: by the cell, or by the notebook's parameter ``explore``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets

from synthembed.profile.parameters import ProfileError, assignments

NAMES = ("prompts", "browse", "tokens", "batch", "neighbours", "playground", "passkeys")


def first(told: str | dict | list | None, explorer: str, **values) -> tuple:
    """First values of an explorer's controls, in their order: ``values``, and in their place what the notebook's
    parameter ``explore`` tells: "prompts.family=sts batch.temperature=0.1", or a mapping of such keys.

    What it tells other explorers is theirs. Raises ProfileError for an explorer or a control that there is not, and
    for a value of another kind.
    """
    for key, value, written in assignments(told):
        name, _, control = key.partition(".")
        if name not in NAMES:
            raise ProfileError(
                f"explore: {written!r}: write explorer.control=value; explorers are {', '.join(NAMES)}"
            )
        if name != explorer:
            continue
        if control not in values:
            raise ProfileError(f"explore: {written!r}: {explorer} has {', '.join(values)}")
        kind = (int, float) if isinstance(values[control], float) else type(values[control])
        if not isinstance(value, kind) or isinstance(value, bool) != isinstance(values[control], bool):
            raise ProfileError(f"explore: {written!r}: {control} is like {values[control]!r}")
        values[control] = value
    return tuple(values.values())


class Explorer(ipywidgets.VBox):
    """Controls in a row, and below them the HTML that ``draw`` makes of their values.

    ``draw`` takes the controls' values in their order and is asked anew when one changes. What it raises is shown
    in its place: a reader who writes something that cannot be read sees why, and goes on.
    """

    def __init__(self, controls: Sequence[ipywidgets.Widget], draw: Callable[..., str]):
        self.controls, self.draw = list(controls), draw
        self.shown = ipywidgets.HTML()
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([ipywidgets.Box(self.controls, layout=row), self.shown])
        for control in self.controls:
            control.observe(self.update, names="value")
        self.update()

    def update(self, _=None) -> None:
        try:
            self.shown.value = self.draw(*(control.value for control in self.controls))
        except Exception as error:
            from html import escape

            self.shown.value = f"<p><b>{escape(type(error).__name__)}</b>: {escape(str(error))}</p>"

    def _repr_mimebundle_(self, **options) -> dict:
        return super()._repr_mimebundle_(**options) | {"text/html": self.shown.value}
