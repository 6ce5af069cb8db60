"""What generation will ask for, before anything is spent (Sec. 4.1)."""

from __future__ import annotations

import random

from . import requests
from .profile import Profile
from .taxonomy import ASYMMETRIC

CHARACTERS_PER_TOKEN = 4.0  # a rule of thumb for English text
SAMPLE = 400


def estimate(profile: Profile) -> str:
    """Requests and prompt tokens of both steps, from a sample of rendered requests."""
    first = list(requests.brainstorms(profile))
    tasks = {
        (i.family, i.number): ["Given a question, find a text that answers it in full."] for i, _ in first
    }
    draw = requests.sampler(profile)
    rng = random.Random(0)
    total = profile.generate.examples
    numbers = rng.sample(range(total), min(SAMPLE, total))
    size = 0
    for number in numbers:
        item = draw.example(number, tasks)
        line = requests.line_of(item, profile.generate, profile.seed)
        size += len(line["body"]["messages"][0]["content"])
    prompt = size / len(numbers) / CHARACTERS_PER_TOKEN
    return (
        f"profile {profile.name}: {len(first):,} brainstorm requests over {len(ASYMMETRIC)} families, "
        f"then {total:,} example requests\n"
        f"prompt tokens: about {prompt:,.0f} a request, {prompt * total / 1e6:,.1f} million in all "
        f"(from {len(numbers)} rendered requests, {CHARACTERS_PER_TOKEN:g} characters a token)"
    )
