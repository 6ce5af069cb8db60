"""Can this machine run a profile? What is missing, in words."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from synthembed.ground.files import ROOT
from synthembed.profile.settings import Profile


def problems_of(profile: Profile) -> Iterator[str]:
    """What keeps this machine from running a profile, one sentence each; prints what it found."""
    import torch

    from synthembed.generation.paid import plan
    from synthembed.ground import embedded, hardware
    from synthembed.labelled import mixture

    print(f"profile {profile.name} ({profile.hash()}), torch {torch.__version__}, device {hardware.device()}")
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < 5:
        yield f"{free:.1f} GB of disk are free; a run wants 5"
    if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
        yield f"Python {sys.version.split()[0]}: use 3.11 to 3.13"
    yield from plan.missing(profile)
    yield from mixture.missing(profile.data)
    try:
        source = embedded.folder_of(profile.backbone.model)
        from transformers import AutoConfig

        AutoConfig.from_pretrained(source)
    except (embedded.BackboneError, OSError) as error:
        yield f"backbone.model {profile.backbone.model!r}: {str(error).splitlines()[0]}"
