"""Can this machine run a profile, in what time? What is missing, in words; and why a kernel ended."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from synthembed.ground import endpoint, places, run_folders
from synthembed.profile.settings import Generate, Profile

LESS_MEMORY = {  # stage → settings that lower what it needs
    "01_generate": "lower generate.concurrency",
    "02_analyze": "set analyze.near_duplicates=false and analyze.contamination=exact",
    "03_train": "halve train.chunk_tokens, set train.graph_tokens=0, or lower train.max_length",
    "04_evaluate": "halve evaluate.batch_tokens",
    "05_ablations": "halve train.chunk_tokens and evaluate.batch_tokens, and set train.graph_tokens=0",
    "08_beyond": "halve train.chunk_tokens and evaluate.batch_tokens, and set train.graph_tokens=0",
    "06_long_context": "leave out the longest of long_context.lengths",
}

RAISED = re.compile(r"[\w.]*(Error|Exception): ")  # the end of a traceback
AGAIN = "Run the same command again: finished stages, stored replies and checkpoints are kept, and it goes on from there."


def kernel_died(stage: str, errors: Path) -> str:
    """What to say when a stage's kernel ended in the middle of its work; ``errors`` is what it wrote to stderr."""
    from synthembed.stages.planning import system_memory

    told = errors.read_text(encoding="utf-8", errors="replace") if errors.exists() else ""
    lines = [line.strip()[:300] for line in told.strip().splitlines()]
    if lines and RAISED.match(lines[-1]):
        return f"the notebook's kernel ended with an error of its own: {lines[-1]}\n{AGAIN}"
    told = next((f"\nIts last words: {line}" for line in reversed(lines) if "atal" in line), "")
    free, total = system_memory.free_and_total()
    remedy = (
        f"{LESS_MEMORY[stage]} (--set), or close other programs"
        if stage in LESS_MEMORY
        else "close other programs"
    )
    return (
        f"the notebook's kernel was killed, most likely by the system for want of memory ("
        f"{total:.1f} GB, {free:.1f} of them free now).{told}\n"
        f"To need less, {remedy}. {AGAIN}"
    )


def problems_of(profile: Profile) -> Iterator[str]:
    """What keeps this machine from running a profile, one sentence each; prints what it found."""
    import torch

    from synthembed.ground import hardware
    from synthembed.labelled import mixture

    on = hardware.device()
    print(f"profile {profile.name} ({profile.hash()}), torch {torch.__version__}, device {on}")
    if sys.platform == "win32":
        yield "Windows itself is not supported: use WSL 2 (wsl --install), where everything is as on Linux"
    if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
        yield f"Python {sys.version.split()[0]}: use 3.11 to 3.13"
    yield from _folders()
    if endpoint.proxies():
        print(f"proxies: {_proxies()}; this machine's own servers are asked past them")
    yield from _names(profile)
    yield from _generation(profile)
    yield from mixture.missing(profile.data)
    yield from _model(profile, on)
    yield from _rows(profile)


def _folders() -> Iterator[str]:
    from synthembed.ground.weights import embedded

    places = (
        ("results", run_folders.own(), run_folders.ELSEWHERE),
        ("models", embedded.cache_folder(), "XDG_CACHE_HOME"),
    )
    for what, folder, variable in places:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield f"{folder}, where {what} go, cannot be written: set {variable} to another"
    if not shutil.which("git"):
        print("git: none, so that no record names a commit")


def _names(profile: Profile) -> Iterator[str]:
    """What a run would refuse before it begins."""
    from synthembed.stages import runner

    try:
        runner.check_names(profile)
    except ValueError as error:
        yield str(error)


def _generation(profile: Profile) -> Iterator[str]:
    """What is missing before generation can start, then what each endpoint of the mix says."""
    from synthembed.generation.paid import endpoint as paid
    from synthembed.generation.paid import plan

    settings = profile.generate
    if settings.backend == "recorded":
        return
    try:
        yield from plan.missing(profile)
    except endpoint.EndpointError as error:
        yield f"{error}: generation cannot start"
        return
    places: dict[tuple, tuple[Generate, list[str]]] = {}
    for model in (m for m, share in settings.models.items() if share):
        for own in settings.of(model).servers():
            if paid.key_of(own) or paid.url_of(own):
                places.setdefault((own.base_url, own.key_variable), (own, []))[1].append(model)
    for own, models in places.values():
        yield from _endpoint(own, models)


def _endpoint(settings: Generate, models: list[str]) -> Iterator[str]:
    """Whether it answers and takes the key; asks for its list of models, which costs nothing."""
    import openai

    from synthembed.generation.paid.endpoint import broken, client_options, key_of

    try:
        options = client_options(settings)
        with endpoint.client(openai.OpenAI, **options | {"timeout": 15.0, "max_retries": 0}) as client:
            url = _without_password(str(client.base_url))
            answer = client.models.with_raw_response.list()
            if "html" in answer.headers.get("content-type", ""):
                yield f"{url} sends a web page in the place of a list of models: check generate.base_url"
                return
            known = {model.id for model in answer.parse().data or []}
            asks_for_a_key = key_of(settings) and not _lists_to_anyone(client)
    except endpoint.EndpointError as error:
        yield f"{_without_password(str(error))}: generation cannot start"
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        yield f"{url} refuses the key in {settings.key_variable} (HTTP {error.status_code})"
    except openai.APIStatusError as error:
        if error.status_code in (500, 502, 503, 504):
            yield f"{url} fails now (HTTP {error.status_code}): try again later, or check generate.base_url"
            return
        print(f"endpoint {url}: answers, and lists no models (HTTP {error.status_code}); {UNTRIED}")
    except openai.APIConnectionError as error:
        through = f", through {_proxies()}" if endpoint.proxies() else ""
        yield f"{url} does not answer{through} ({broken(error)}): check generate.base_url and the network"
    except Exception as error:  # whatever a server sends in the place of a list
        print(
            f"endpoint {url}: answers, but its list of models cannot be read ({type(error).__name__}); {UNTRIED}"
        )
    else:
        if asks_for_a_key:
            print(f"endpoint {url}: answers, and takes the key")
        else:
            untried = f"; {UNTRIED}" if key_of(settings) else ""
            print(f"endpoint {url}: answers, and lists its models without a key{untried}")
        unknown = [m for m in models if m not in known]
        if known and unknown:
            some = ", ".join(sorted(known)[:8]) + (", ..." if len(known) > 8 else "")
            yield f"generate.models: {url} does not list {', '.join(unknown)}; it has {some}"


UNTRIED = "whether it takes the key, the first request will show"


def _lists_to_anyone(client) -> bool:
    """Whether a wrong key gets the list as well, so that the list says nothing of the key."""
    import openai

    try:
        client.with_options(api_key="sk-nobodys-key").models.with_raw_response.list()
    except openai.OpenAIError:
        return False
    return True


def _without_password(text: str) -> str:
    """URLs in a text without the name and password that they may hold."""
    return re.sub(r"(://|=(?!\w+://))\S+@", r"\1…@", text)


def _proxies() -> str:
    return _without_password(", ".join(endpoint.proxies()))


NOT_HAD = (OSError, ValueError, AttributeError)  # what libraries raise where a base cannot be had


def _model(profile: Profile, on) -> Iterator[str]:
    """Whether the base can be had, and from its shape the minutes, the memory and the disk of a run."""
    from synthembed.stages.planning import forecast
    from synthembed.training import gpu_cost

    name = profile.backbone.model
    try:
        shape = gpu_cost.shape_of(_configuration(name), profile.backbone.layers)
    except NOT_HAD as error:
        yield f"backbone.model {name!r}: {_first_line(error)}"
        if not name.endswith(forecast.KNOWN_SHAPE):
            return
        shape = forecast.MISTRAL_7B
    yield from forecast.problems(profile, shape, on)


def _rows(profile: Profile) -> Iterator[str]:
    """What rows of the ablations read beside the main training, each once: other bases, pairs to pre-train on."""
    seen = {profile.backbone.model, "docstrings", None}
    for row in profile.ablations.rows:
        own = profile.with_overrides(profile.ablations.set | row.set)
        base, pairs = own.backbone.model, own.pretrain
        source = pairs and pairs.source
        if base not in seen and not base.startswith("embedded:"):  # those come out of packages
            try:
                _configuration(base)
            except NOT_HAD as error:
                yield f"ablations.rows, {row.id}: backbone.model {base!r}: {_first_line(error)}"
        if source not in seen and not places.hub_id(source) and not Path(source).exists():
            yield (
                f"ablations.rows, {row.id}: pretrain.source {source!r} is not there: put tables with the fields "
                f"{pairs.title!r} and {pairs.body!r} there, or leave out the rows that pre-train"
            )
        seen |= {base, source}


def _configuration(model: str):
    """Of a base, fetched if need be; raises one of NOT_HAD."""
    from synthembed.ground.weights import embedded

    try:
        source = embedded.folder_of(model)
    except embedded.BackboneError as error:
        raise ValueError(str(error)) from None
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(source)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
