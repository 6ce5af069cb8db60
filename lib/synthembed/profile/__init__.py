"""One YAML file = one run: typed settings, whose defaults are the paper's (read first, by every room)."""

from synthembed.profile.reading import ProfileError
from synthembed.profile.settings import (
    Analyze,
    Backbone,
    Data,
    Evaluate,
    Generate,
    LongContext,
    Lora,
    Negatives,
    Pretrain,
    Profile,
    Train,
    load,
)

__all__ = [
    "Analyze", "Backbone", "Data", "Evaluate", "Generate", "LongContext", "Lora", "Negatives", "Pretrain",
    "Profile", "ProfileError", "Train", "load",
]  # fmt: skip
