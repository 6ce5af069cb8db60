"""`synthembed descriptions`: Debian's package descriptions as pairs for contrastive pre-training."""

from __future__ import annotations

from synthembed.commands.options import plain_errors
from synthembed.ground import run_folders
from synthembed.ground.files import shown


def descriptions() -> None:
    """Write this machine's Debian package descriptions as pairs, for pre-training in notebook 08."""
    with plain_errors():
        from synthembed.beyond import descriptions as of_debian

        path = run_folders.own() / "descriptions" / "pairs.jsonl"
        counts, drops = of_debian.write(path)
    languages = ", ".join(f"{language} {count:,}" for language, count in counts.most_common())
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in drops.counts.most_common())
    print(f"{shown(path)}: {drops.kept:,} pairs ({languages}); left out: {left_out or 'none'}")
