"""mteb on the embedded suite, the protocol, the exported model, and the averages."""

import json
import subprocess
import sys

import mteb
import mteb.mocks
import numpy as np
import pytest
import torch
from mteb.models import EncoderProtocol
from mteb.results import TaskResult
from mteb.types import PromptType
from synthembed import paper, profile
from synthembed.evaluation import mteb_runs, protocol, scores
from synthembed.evaluation.suites import benchmarks, embedded_tasks
from synthembed.model import adapter, backbone, export
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Submission
from synthembed.report import publishing
from tiny_models import byte_tokenizer, tiny_model

PLAN = profile.load("laptop")


def of_type(name: str):
    return next(t for t in embedded_tasks.embedded() if t.metadata.type == name)


def test_the_suite_covers_every_category_and_loads():
    tasks = embedded_tasks.embedded()
    assert {t.metadata.type for t in tasks} == set(scores.CATEGORIES)
    for task in tasks:
        task.load_data()
        assert task.data_loaded and len(task.metadata.dataset["revision"]) == 40


def test_retrieval_judgements_point_at_texts():
    for task in embedded_tasks.embedded():
        if task.metadata.type not in ("Retrieval", "Reranking"):
            continue
        task.load_data()
        for subset in task.dataset.values():
            data = subset["test"]
            documents, queries = set(data["corpus"]["id"]), set(data["queries"]["id"])
            assert set(data["relevant_docs"]) == queries
            assert all(set(judged) <= documents for judged in data["relevant_docs"].values())


def test_a_score_does_not_depend_on_what_was_evaluated_before(llama, tmp_path):
    """mteb draws the texts of a clustering from a generator of the task, which systems share."""
    subject = protocol.MtebEncoder(Encoder(llama, max_length=96), "synthembed/tiny", "1")
    shared = embedded_tasks.embedded(["EmbeddedAbstracts"])
    first, second = (mteb_runs.run_tasks(subject, shared, tmp_path / name, "tiny") for name in "ab")
    assert first == second


def test_our_encoder_is_mtebs_protocol_and_scores_each_category(llama, tmp_path):
    subject = protocol.MtebEncoder(Encoder(llama, max_length=160), "synthembed/tiny", "1")
    assert isinstance(subject, EncoderProtocol)
    names = ["EmbeddedSTSGeneral", "EmbeddedCommunity", "EmbeddedSummaries", "EmbeddedEmotion"]
    rows = mteb_runs.run_tasks(subject, embedded_tasks.embedded(names), tmp_path, "tiny")
    assert [r["task"] for r in rows] == names
    assert all(np.isfinite(r["score"]) for r in rows)
    stored = json.loads((tmp_path / "EmbeddedEmotion.json").read_text())
    assert {"dataset_revision", "task_name", "mteb_version", "scores", "evaluation_time"} <= set(stored)


def test_mtebs_own_mock_tasks_of_every_text_type_run(llama):
    subject = protocol.MtebEncoder(Encoder(llama, max_length=256), "synthembed/tiny", "1")
    found = {name: r for name, r in mteb.mock_run(subject).task_results.items() if r is not None}
    failed = {name: r for name, r in found.items() if not isinstance(r, TaskResult)}
    assert not failed and len(found) >= 25
    kinds = {t.metadata.name: t.metadata.type for t in mteb.mocks.MOCK_TASK_TEST_GRID}
    assert {kinds[name] for name in found if name in kinds} >= set(scores.CATEGORIES)


def test_results_are_as_mtebs_cache_has_them(llama, tmp_path):
    about = Submission(name="someone/a-model", training_code="https://example.org/code")
    subject = protocol.MtebEncoder(
        Encoder(llama, max_length=160),
        about.name,
        "1",
        about=about,
        date="2026-01-02",
        base="embedded:smollm2-135m",
    )
    folder = tmp_path / "results" / "someone__a-model" / "1"
    mteb_runs.run_tasks(subject, embedded_tasks.embedded(["EmbeddedSTSGeneral"]), folder, "trained")
    cache = mteb.ResultCache(tmp_path)
    result = cache.load_task_result("EmbeddedSTSGeneral", "someone/a-model", "1", raise_if_not_found=True)
    assert 0 <= abs(result.get_score()) <= 1
    assert [p.parent for p in cache.get_cache_paths(require_model_meta=True)] == [folder]
    meta = json.loads((folder / "model_meta.json").read_text())
    assert meta["name"] == "someone/a-model" and meta["release_date"] == "2026-01-02"
    assert meta["adapted_from"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    missing = {k for k, v in meta.items() if v is None} - {
        "loader", "n_active_parameters_override", "public_training_data", "reference", "superseded_by",
        "citation", "contacts", "experiment_kwargs", "output_dtypes", "extra_requirements_groups",
    }  # fmt: skip
    assert not missing


def test_a_finished_task_is_not_run_again(llama, tmp_path):
    subject = protocol.MtebEncoder(Encoder(llama, max_length=160), "synthembed/tiny", "1")
    tasks = embedded_tasks.embedded(["EmbeddedSTSGeneral"])
    first = mteb_runs.run_tasks(subject, tasks, tmp_path, "tiny")
    assert mteb_runs.run_tasks(None, tasks, tmp_path, "tiny") == first  # no model is needed


@pytest.mark.parametrize("kind", list(scores.CATEGORIES))
def test_protocol_instructions(llama, kind):
    """Both sides outside retrieval; queries only in retrieval."""
    subject = protocol.MtebEncoder(Encoder(llama), "x/y", "1")
    metadata = of_type(kind).metadata
    wanted = metadata.prompt["query"] if isinstance(metadata.prompt, dict) else metadata.prompt
    assert subject.before(metadata, PromptType.query) == wanted
    assert subject.before(metadata, PromptType.document) == ("" if "Retrieval" in kind else wanted)
    assert protocol.MtebEncoder(Encoder(llama), "x/y", "1", "none").before(metadata, None) == ""


def test_quora_documents_are_read_as_queries(llama):
    subject = protocol.MtebEncoder(Encoder(llama), "x/y", "1")
    quora = mteb.get_task("QuoraRetrieval").metadata
    query = subject.before(quora, PromptType.query)
    assert query and subject.before(quora, PromptType.document) == query
    nq = mteb.get_task("NQ").metadata
    assert subject.before(nq, PromptType.query) and not subject.before(nq, PromptType.document)


def test_every_task_of_the_papers_benchmark_has_an_instruction(llama):
    subject = protocol.MtebEncoder(Encoder(llama), "x/y", "1")
    tasks = benchmarks.load(["MTEB(eng, v1)"])["MTEB(eng, v1)"]
    assert len(tasks) == 56
    for task in tasks:
        if not hasattr(task, "tasks"):  # CQADupstack's aggregate is run as its parts
            assert len(subject.before(task.metadata, PromptType.query)) > 10, task.metadata.name


def test_classification_vectors_are_not_normalised(llama):
    subject = protocol.MtebEncoder(Encoder(llama), "x/y", "1")
    batches = [{"text": ["one text", "another"]}]
    for kind, unit in (("Classification", False), ("STS", True)):
        vectors = subject.encode(
            batches, task_metadata=of_type(kind).metadata, hf_split="test", hf_subset="default"
        )
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) == unit


def test_both_directions_of_a_translation_and_scripts_of_a_language_have_rows_of_their_own():
    """Otherwise one stands in the place of the other wherever rows are told apart by their language."""
    subsets = {
        "de-en": ["deu-Latn", "eng-Latn"],
        "en-de": ["eng-Latn", "deu-Latn"],
        "fr-en": ["fra-Latn", "eng-Latn"],
    }
    found = [{"hf_subset": s, "languages": x, "main_score": 0.5} for s, x in subsets.items()]
    rows = mteb_runs.rows_of({"scores": {"test": found}}, mteb.get_task("BUCC"), "x", "own")
    assert [r["language"] for r in rows] == ["deu+eng (de-en)", "deu+eng (en-de)", "eng+fra"]


def test_averages_weigh_tasks_as_table_1_does():
    rows = [
        {"system": "s", "category": "STS", "task": "a", "score": 80.0},
        {"system": "s", "category": "STS", "task": "b", "score": 60.0},
        {"system": "s", "category": "Retr.", "task": "c", "language": "en", "score": 10.0},
        {"system": "s", "category": "Retr.", "task": "c", "language": "fr", "score": 30.0},
        {"system": "s", "category": "Bitext", "task": "d", "score": 99.0},
        {"system": "s", "category": "Multil.", "task": "e", "score": 1.0},
    ]
    assert scores.averages(rows) == {
        "STS": 70.0,
        "Retr.": 20.0,
        "Bitext": 99.0,
        "Multil.": 1.0,
        "Avg": pytest.approx(160 / 3),
    }


def test_retrieval_in_several_languages_is_no_part_of_table_1():
    """As MIRACL (Tables 2 and 6) is none of MTEB's 56 English sets."""
    tasks = [*embedded_tasks.embedded(), *map(mteb.get_task, ("MIRACLRetrieval", "NQ", "CosQA"))]
    found = {
        t.metadata.name: scores.category(t.metadata.type, [x for s in t.metadata.hf_subsets_to_langscripts.values() for x in s])
        for t in tasks
    }  # fmt: skip
    assert {n for n, c in found.items() if c == "Multil."} == {"EmbeddedMultilingual", "MIRACLRetrieval"}
    assert not set(scores.APART) & set(scores.TABLE1)
    assert found["NQ"] == found["CosQA"] == "Retr."  # English and Python
    assert scores.category("Retrieval", ["fra-Latn"]) == "Retr." and found["EmbeddedBitext"] == "Bitext"


def test_a_system_without_some_category_has_no_average_to_compare():

    rows = [{"system": "a", "category": c, "task": c, "score": 50.0} for c in ("STS", "Retr.")]
    rows += [{"system": "bm25", "category": "Retr.", "task": "Retr.", "score": 30.0}]
    found = scores.by_system_of_equal_tasks(rows)
    assert found["a"]["Avg"] == 50 and found["bm25"] == {"Retr.": 30.0}


STYLES, POOLINGS = ("llama", "mistral", "qwen"), ("last", "mean", "weighted-mean")
TEXTS = ["the cat", "日本語", "a longer text " * 20, "x"]
READ_ALONE = """
import sys, json
sys.modules["synthembed"] = None  # as if it were not installed
from sentence_transformers import SentenceTransformer
texts, folders = json.loads(sys.argv[1])
models = {name: SentenceTransformer(folder, device="cpu") for name, folder in folders.items()}
print(json.dumps({
    name: [{n: m.encode(texts, prompt_name=n).tolist() for n in ("STS", "document")}, m.prompts]
    for name, m in models.items()
}))
"""


def tiny_backbone(style: str) -> Backbone:
    return Backbone(tiny_model(style), TokenContract.of(byte_tokenizer(style)), {"model": f"tiny-{style}"})


@pytest.fixture(scope="module")
def read_alone(tmp_path_factory) -> dict:
    """(vectors, prompts) of every exported folder, read by one process without our library."""
    folders = {
        f"{style} {pooling}": str(
            export.export(
                tiny_backbone(style),
                tmp_path_factory.mktemp("alone") / "model",
                pooling,
                "natural",
                "a card",
                64,
            )
        )
        for style in STYLES
        for pooling in POOLINGS
    }
    command = [sys.executable, "-c", READ_ALONE, json.dumps([TEXTS, folders])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_exported_folder_loads_alone_and_gives_our_vectors(read_alone, style, pooling):
    found, prompts = read_alone[f"{style} {pooling}"]
    assert prompts["STS"] == "Instruct: Retrieve semantically similar text.\nQuery: "
    encoder = Encoder(tiny_backbone(style), pooling, max_length=64)
    for name, instruction in (("STS", export.PROMPTS["STS"]), ("document", "")):
        ours = encoder.encode(TEXTS, instruction)
        assert (ours * np.array(found[name])).sum(1).min() > 0.9999


def trained_adapter() -> tuple[Backbone, Backbone]:
    """A base and the same base under an adapter that has moved."""
    base, other = (
        Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "someone/base"})
        for _ in range(2)
    )
    adapted = adapter.add_lora(other, profile.Lora(rank=4, alpha=8), 0)
    for name, p in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    return base, Backbone(adapted.model.eval(), adapted.contract, adapted.source)


def test_the_adapter_alone_gives_the_trained_vectors(tmp_path):
    from peft import PeftModel

    base, trained = trained_adapter()
    expected = Encoder(trained).encode(["the cat", "x"])
    folder = export.export_adapter(trained, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/base" and config["r"] == 4
    again = Backbone(PeftModel.from_pretrained(base.model, folder).eval(), base.contract, base.source)
    assert np.allclose(Encoder(again).encode(["the cat", "x"]), expected, atol=1e-6)
    assert not np.allclose(Encoder(trained_adapter()[0]).encode(["the cat", "x"]), expected, atol=1e-3)


def test_a_published_folder_has_the_model_its_adapter_and_its_scores(tmp_path):
    import yaml

    run, plan = tmp_path / "run", profile.load("laptop")
    for stage in ("02_analyze", "03_train", "04_evaluate"):
        (run / stage).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"run/02_analyze/statistics.json is missing"):
        publishing.publish(run, tmp_path / "out")
    _, trained = trained_adapter()
    export.export_adapter(trained, run / "03_train" / "adapter")
    export.export(adapter.merge_lora(trained), run / "03_train" / "model", "last", "natural", "")
    row = {"system": "trained", "benchmark": "embedded", "task": "T", "category": "STS", "language": "eng",
           "metric": "cosine_spearman", "score": 61.25}  # fmt: skip
    settings = plan.model_dump(mode="json")
    for name, data in {
        "02_analyze/statistics.json": {"examples": 24, "language_count": 3, "instructions": 5,
                                       "families": {"sts": 100.0}, "languages": {"English": 60.0}},
        "03_train/stage.json": {"profile": "laptop", "steps": 7,
                                "data": {"examples": 24, "sets": {"synthetic": {"examples": 24}}},
                                "settings": {k: settings[k] for k in ("seed", "backbone", "lora", "train")}},
        "04_evaluate/scores.json": {"rows": [row, row | {"system": "base", "score": 1.0}]},
        "04_evaluate/stage.json": {"settings": {"evaluate": settings["evaluate"]}},
    }.items():  # fmt: skip
        (run / name).write_text(json.dumps(data))
    folder = publishing.publish(run, tmp_path / "out")
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 61.25 and header["base_model"] == "google/gemma-3-270m"
    assert "| T | eng | cosine_spearman | 61.2 |" in card and "for 7 steps" in card and "English 60.0" in card
    assert (folder / "model.safetensors").exists() and (folder / "adapter" / "adapter_config.json").exists()
    with pytest.raises(FileExistsError, match="not empty"):
        publishing.publish(run, folder)


def test_int8_weights_stay_near(llama):
    from synthembed.model.cpu.int8_linear import Int8Linear, to_int8

    small = Backbone(to_int8(llama.model), llama.contract, llama.source)
    texts = ["the cat", "a longer text " * 20, "x"]
    for instruction in ("", "the task at hand"):
        exact, near = (Encoder(b).encode(texts, instruction) for b in (llama, small))
        assert 0.995 < (exact * near).sum(1).min() < 1
    assert small.matrix_parameters() == llama.matrix_parameters()
    assert not any(isinstance(m, Int8Linear) for m in llama.model.modules())
    with pytest.raises(ValueError, match="float32 weights on the CPU"):
        to_int8(tiny_model("llama").bfloat16())


def test_the_encode_command_writes_vectors(tiny_folder, tmp_path):
    from synthembed.commands.command_line import app
    from typer.testing import CliRunner

    (tmp_path / "t.txt").write_text("one\ntwo\n")
    out = tmp_path / "v.npy"
    ask = lambda *more: CliRunner().invoke(app, ["encode", str(tmp_path / "t.txt"), str(out), *more])  # noqa: E731
    done = ask("--model", str(tiny_folder), "--dtype", "float32")
    assert done.exit_code == 0 and "2 vectors of 32 numbers" in done.output
    assert "0 distinct texts were cut" in done.output  # the check at load cuts some, which are not theirs
    encoder = Encoder(backbone.load(profile.Backbone(model=str(tiny_folder))))
    assert np.allclose(np.load(out), encoder.encode(["one", "two"]), atol=1e-6)
    again = ask("--model", str(tiny_folder))
    assert again.exit_code == 1 and "is there already" in again.output
    assert ask("--model", str(tiny_folder), "--dtype", "int4").exit_code == 2


def test_the_exported_tokenizer_keeps_the_contract(backbone, tmp_path):
    from transformers import AutoTokenizer

    export.export(backbone, tmp_path, "last", "natural", "", 16)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the", "", "long " * 30):
        ids = tokenizer(text, truncation=True)["input_ids"]
        assert [ids] == backbone.contract.ids([text], 16)


def test_published_numbers_have_unique_ids():
    ids = [c.id for artefact in paper.TITLES for c in paper.cells(artefact)]
    assert len(set(ids)) == len(ids) > 600
    assert "table1/full data/Avg" in ids and "figure5/window 4k, base 10^4/256" in ids
