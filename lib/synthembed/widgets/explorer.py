"""What every explorer is: controls above, what they show below, and a still picture where no kernel is.

An executed notebook is also read where widgets are not drawn (GitHub, a page without JavaScript). An Explorer
therefore hands over HTML beside its widget: what it showed when the cell ran. The arguments of each explorer are
its controls' first values, so that a run without a reader shows what it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets


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
