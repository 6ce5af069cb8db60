"""The trained model of a run as a folder to publish, with a card that has its scores, or for another runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

from synthembed.evaluation.scores import averages
from synthembed.ground.files import read_json
from synthembed.model.export import model_card
from synthembed.model.formats import gguf_file, onnx_graph, parity, peft_adapter
from synthembed.model.formats.parity import ExportError
from synthembed.profile.settings import Backbone, Profile


def publish(run: Path, folder: Path) -> Path:
    """The trained model of a run with its adapter and a card that has its measured scores.

    Reads what stages 02 to 04 wrote under ``run``; raises FileNotFoundError naming what is missing.
    """
    needed = (
        "02_analyze/statistics.json",
        "03_train/stage.json",
        "03_train/model",
        "04_evaluate/scores.json",
    )
    for name in needed:
        if not (run / name).exists():
            raise FileNotFoundError(f"{run.name}/{name} is missing: run that stage first")
    _new(folder)
    shutil.copytree(run / "03_train" / "model", folder, dirs_exist_ok=True)
    if (run / "03_train" / "adapter").exists():
        shutil.copytree(run / "03_train" / "adapter", folder / "adapter")
    record = read_json(run / "03_train" / "stage.json")
    rows = [r for r in read_json(run / "04_evaluate" / "scores.json")["rows"] if r["system"] == "trained"]
    statistics = read_json(run / "02_analyze" / "statistics.json")
    evaluated = read_json(run / "04_evaluate" / "stage.json")["settings"]["evaluate"]
    profile = Profile(name=record["profile"], **record["settings"], evaluate=evaluated)
    card = model_card(profile, record["data"], record["steps"], statistics, rows, averages(rows))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def export(
    run: Path | None, folder: Path, form: str, model: str = "", precision: str = "f32", check: bool = True
) -> str:
    """The model of a run, or of the folder ``model``, in the format ``form``; returns what to say of it.

    ``check`` loads a gguf or onnx export with its own runtime and compares vectors; ExportError where a cosine is
    below parity.LEAST, with the folder removed.
    """
    if precision != "f32" and form != "gguf":
        raise ExportError(
            f"precision {precision}: only gguf has it, and {form} keeps the weights as they are"
        )
    source = (
        run / "03_train" / ("adapter" if form == "peft" else "model") if run else Path(model).expanduser()
    )
    wanted = {"peft": "adapter_config.json"}.get(form, "modules.json")
    if form == "peft" and not run and (source / "modules.json").exists():
        raise FileNotFoundError(
            f"{source} has its adapter in its weights, and none apart: choose sentence-transformers, gguf or onnx"
        )
    if form == "peft" and run and not source.exists() and (run / "03_train" / "model").exists():
        raise FileNotFoundError(
            f"{run.name} has no adapter: its base was pre-trained, or all of its weights were trained, and model/ alone has "
            "that: choose sentence-transformers, gguf or onnx"
        )
    if not (source / wanted).exists():
        remedy = (
            "weights are not committed, so run the training first" if run
            else "--model is a folder of this machine that has it, such as model in what synthembed adapt wrote"
        )  # fmt: skip
        raise FileNotFoundError(f"{source / wanted} is missing: {remedy}")
    _new(folder)
    try:
        if run and form == "sentence-transformers":
            publish(run, folder)
            told = f"{folder}: loads with SentenceTransformer; its README.md is the model card"
            told += _compared(folder, source, check)
        elif run and form == "peft":
            told = _adapter(run, source, folder, check)
        else:
            told = _written(source, folder, form, precision, check)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for notice in sorted(source.glob("*")):
        if notice.suffix in (".md", ".html") and notice.name != "README.md":
            shutil.copy(notice, folder)
    return told


def _written(source: Path, folder: Path, form: str, precision: str, check: bool) -> str:
    if form in ("sentence-transformers", "peft"):
        shutil.copytree(source, folder, dirs_exist_ok=True)
        loads = "PeftModel.from_pretrained(base, ...)" if form == "peft" else "SentenceTransformer"
        told = f"{folder}: loads with {loads}; how vectors are read says its README.md"
        return told + (_compared(folder, source, check) if form == "sentence-transformers" else "")
    folder.mkdir(parents=True, exist_ok=True)
    least = None
    if form == "gguf":
        written = gguf_file.write(source, folder / f"model-{precision}.gguf", precision)
        if check:
            least = parity.check(source, "llama.cpp", lambda texts: gguf_file.encode(written.path, texts))
        about, losses = _GGUF.format(name=written.path.name), written.losses
    else:
        onnx_graph.write(source, folder)
        if check:
            least = parity.check(source, "onnxruntime", lambda texts: onnx_graph.encode(folder, texts))
        about, losses = (
            _ONNX,
            [
                "the prompts: prompts.json has them, and run_onnx.py puts before a text what it is given",
                *parity.length_lost(parity.read_as(source)),
            ],
        )
    measured = f"The least cosine to our vectors is {least:.5f}" if check else "No vector was compared"
    (folder / "README.md").write_text(_card(source, form, about, measured, losses, least), encoding="utf-8")
    return f"{folder}: {measured.lower()}{f', over {len(parity.TEXTS)} texts of {_SCRIPTS} scripts' if check else ''}; not in the format: {'; '.join(losses)}"


def _compared(folder: Path, source: Path, check: bool) -> str:
    """Ours and sentence-transformers' vectors of one folder: the least cosine, in words."""
    if not check:
        return ""
    from sentence_transformers import SentenceTransformer

    def encode(texts):
        # In float32, as ours are: what was saved in half precision would be read in half.
        model = SentenceTransformer(str(folder), model_kwargs={"dtype": "float32"})
        return model.encode(list(texts), prompt="", normalize_embeddings=True)

    return f"; the least cosine to our vectors is {parity.check(source, 'sentence-transformers', encode):.5f}"


def _adapter(run: Path, source: Path, folder: Path, check: bool) -> str:
    settings = read_json(run / "03_train" / "stage.json")["settings"]
    backbone = Backbone(**settings["backbone"])
    shutil.copytree(source, folder, dirs_exist_ok=True)
    measured = "No vector was compared"
    if check:
        encode = lambda texts: peft_adapter.encode(folder, backbone, texts)  # noqa: E731
        least = parity.check(run / "03_train" / "model", "peft", encode)
        measured = f"With the base that it was trained on, the least cosine to the merged model's vectors is {least:.5f}"
        measured += f" ({len(parity.TEXTS)} texts)"
    card = peft_adapter.card(backbone, settings["train"]["instruction"], f"{measured}.")
    (folder / "README.md").write_text(card, encoding="utf-8")
    return f"{folder}: {measured[0].lower() + measured[1:]}; not in the format: {'; '.join(peft_adapter.losses(backbone))}"


_SCRIPTS = 19
_GGUF = """    llama-server -m {name} --embedding --ubatch-size 2048

It serves /v1/embeddings. Pooling, bos and eos are in the file; vectors have length 1 (--embd-normalize 2, the default)."""
_ONNX = """    python run_onnx.py

`run_onnx.py` needs onnxruntime, tokenizers and numpy alone; copy its `encode`. The graph takes ids and mask, padded on
the right, and gives vectors of length 1; tokenizer.json puts bos and eos around a text."""


def _card(source: Path, form: str, about: str, measured: str, losses: list[str], least: float | None) -> str:
    said = read_json(source / "config_sentence_transformers.json", {})
    prompts = {name: text for name, text in (said.get("prompts") or {}).items() if text}
    told = [f"{name}: {_prompt(text)}" for name, text in prompts.items()]
    if default := prompts.get(said.get("default_prompt_name")):
        told.append(f"where no other is asked for: {_prompt(default)}")
    if least is not None:
        measured += f" ({len(parity.TEXTS)} texts in {_SCRIPTS} scripts, code and signs included)"
    parts = [
        f"# {source.resolve().name} as {form.upper()}", about,
        f"What stands before a text, by its kind: {'; '.join(told)}." if told else "Texts take no prompt.",
        f"{measured}.",
        "What the format does not carry:\n\n" + "\n".join(f"- {loss}" for loss in losses),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _prompt(text: str) -> str:
    return f"`{text!r}`" if text else "nothing"


def _new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is a file, or not empty: choose another folder")


__all__ = ["ExportError", "export", "publish"]
