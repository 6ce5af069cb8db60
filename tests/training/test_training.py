"""Loss and gradients against plain computation, what a run logs, and what must stop it."""

import json
import math
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.ground.weights import embedded
from synthembed.model import adapter, export, instructions, tokens
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone
from synthembed.training import batches, contrastive, memory_budget, trackers, train
from tiny_training import CORPUS, assert_equal, example, fresh, tiny, with_adapter
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.usefixtures("one_thread")

contrastive_backward = train.backward


def info_nce(queries, documents, *rest, **options):
    """The loss of separate queries and documents."""
    rows = torch.arange(len(queries) + len(documents)).split([len(queries), len(documents)])
    return contrastive.info_nce(torch.cat([queries, documents]), *rows, *rest, **options)


def test_info_nce_is_the_formula():
    queries, documents = torch.randn(3, 5).double(), torch.randn(7, 5).double()
    loss, metrics = info_nce(queries, documents, torch.tensor([2, 0, 6]), 0.02)
    cosine = F.cosine_similarity(queries[:, None], documents[None], dim=-1)
    phi = (cosine / 0.02).exp()
    expected = -(phi[[0, 1, 2], [2, 0, 6]] / phi.sum(1)).log().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert metrics["positive_similarity"] == pytest.approx(cosine[[0, 1, 2], [2, 0, 6]].mean().item())


def test_masking_takes_out_known_positives_and_nothing_else():
    queries = ["q", "q", "r"]
    positives = ["p1", "p2", "p3"]
    documents = ["p1", "p2", "p3", "n", "r"]
    mask = contrastive.excluded_pairs(queries, positives, documents, [0, 1, 2])
    assert mask.to_dense().tolist() == [
        [False, True, False, False, False],
        [True, False, False, False, False],
        [False, False, False, False, True],
    ]


def taken(model: Backbone) -> dict[str, torch.Tensor]:
    """The gradients of what is trained, and none left behind."""
    found = {n: p.grad for n, p in model.model.named_parameters() if p.requires_grad}
    model.model.zero_grad(set_to_none=True)
    return found


def plain(model: Backbone, batch: batches.Batch, settings) -> tuple[float, dict]:
    """Every chunk's graph alive at once, one loss, one backward pass: what autograd gives by itself."""
    vectors = []
    for rows, seed in zip(batch.chunks, batch.seeds, strict=True):
        torch.manual_seed(seed)
        vectors.append(train.vectors_of(tiny())(model, rows))
    vectors = F.normalize(torch.cat(vectors), dim=1)
    logits = vectors[batch.query_rows] @ vectors[batch.document_rows].T / settings.temperature
    if batch.excluded is not None:
        logits = logits.masked_fill(batch.excluded.to_dense(), -torch.inf)
    loss = F.cross_entropy(logits, batch.positives)
    loss.backward()
    return loss.item(), taken(model)


def cached(model: Backbone, batch: batches.Batch, settings) -> tuple[float, dict]:
    loss, _ = train.backward(model, batch, settings, train.vectors_of(tiny()))
    return loss, taken(model)


@settings(max_examples=20, deadline=None)
@given(
    chunk=st.integers(8, 400), graphs=st.sampled_from([0, 64, 10**6]), dropout=st.sampled_from([0.0, 0.3]),
    temperature=st.sampled_from([0.02, 1.0]), checkpointing=st.booleans(), negatives=st.booleans(),
    masked=st.booleans(),
)  # fmt: skip
def test_cached_gradients_are_those_of_plain_backward(
    chunk, graphs, dropout, temperature, checkpointing, negatives, masked
):
    """Texts of mixed length, some examples without a negative, dropout drawn again from its seed."""
    from tiny_models import byte_tokenizer, tiny_model

    base = Backbone(tiny_model("llama"), tokens.TokenContract.of(byte_tokenizer("llama")), {})
    model = with_adapter(base, dropout)
    chosen = tiny(
        **{"train.chunk_tokens": chunk, "train.graph_tokens": graphs, "train.temperature": temperature,
           "train.hard_negatives": negatives, "train.mask_known_positives": masked}
    ).train  # fmt: skip
    batch = batches.Batch(CORPUS[:8], model, chosen, seed=7)
    loss, expected = plain(model, batch, chosen)
    memory_budget.set_checkpointing(model, checkpointing)
    again, found = cached(model, batch, chosen)
    assert again == pytest.approx(loss, rel=1e-12)
    assert_equal(found, expected)


def test_chunking_does_not_change_the_gradient(llama):
    """Without dropout, any chunking gives the gradient of one plain backward over the whole batch."""
    model = with_adapter(llama, 0.0)
    whole = tiny(**{"train.chunk_tokens": 10**6}).train
    loss, expected = plain(model, batches.Batch(CORPUS[:8], model, whole), whole)
    for chunk in (16, 60, 200):
        cut = tiny(**{"train.chunk_tokens": chunk}).train
        again, found = cached(model, batches.Batch(CORPUS[:8], model, cut), cut)
        assert again == pytest.approx(loss, rel=1e-10)
        assert_equal(found, expected)


def test_accumulated_small_batches_are_not_the_large_batch(llama):
    """What gradient caching is for: accumulation has fewer negatives, and another gradient."""
    model, chosen = with_adapter(llama, 0.0), tiny().train
    _, expected = cached(model, batches.Batch(CORPUS[:8], model, chosen), chosen)
    for part in (CORPUS[:4], CORPUS[4:8]):
        train.backward(model, batches.Batch(part, model, chosen), chosen, train.vectors_of(tiny()))
    accumulated = taken(model)
    off = [((accumulated[n] / 2 - g).norm() / g.norm()).item() for n, g in expected.items()]
    assert min(off) > 0.01 and max(off) > 0.1


@pytest.mark.parametrize(
    "size", [{"mini_batch_size": 3}, {"mini_batch_size": 3, "mini_batch_num_tokens": 90}]
)
def test_loss_and_gradients_are_those_of_sentence_transformers(llama, tmp_path, size):
    """Its cached loss on the exported model, the same texts and temperature, in float64."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from synthembed.model import export

    chosen = tiny(**{"train.method": "full", "train.mask_known_positives": False})
    corpus = [example(n) for n in range(8)]
    theirs = SentenceTransformer(str(export.export(llama, tmp_path, "last", "natural", "")), device="cpu")
    theirs.double().train()
    texts = [[instructions.query_text(e, "natural") for e in corpus], [e.positive for e in corpus]]
    texts.append([e.negative for e in corpus])
    loss = CachedMultipleNegativesRankingLoss(theirs, scale=1 / chosen.train.temperature, **size)
    value = loss([theirs.preprocess(t) for t in texts], torch.empty(0))
    value.backward()
    expected = {n: p.grad for n, p in theirs[0].auto_model.named_parameters()}
    llama.model.double()
    model, _ = train.prepare(chosen, llama)
    ours, found = cached(model, batches.Batch(corpus, model, chosen.train), chosen.train)
    assert ours == pytest.approx(value.item(), rel=1e-9)
    assert_equal(found, expected, most=1e-7)


def relative(found: dict, expected: dict) -> float:
    pairs = [(found[n].float() - g.float(), g.float()) for n, g in expected.items()]
    return (sum(d.square().sum() for d, _ in pairs) / sum(g.square().sum() for _, g in pairs)).sqrt().item()


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_gradients_in_half_precision_are_near_those_in_float32(llama, kind, method):
    """Mixed precision keeps what is trained in float32; float16 scales the vectors' gradient."""
    results = []
    for dtype in ("float32", kind):
        chosen = tiny(**{"backbone.dtype": dtype, "train.method": method, "lora.dropout": 0,
                         "train.temperature": 0.2, "train.max_grad_norm": 0.1})  # fmt: skip
        base = fresh(llama)
        base.model.to(getattr(torch, dtype))
        model, trainable = train.prepare(chosen, base)
        assert {p.dtype for p in trainable.values()} == {torch.float32}
        batch = batches.Batch(CORPUS[:8], model, chosen.train)
        loss, metrics = train.gradients(chosen, model, batch, chosen.train, trainable)
        results.append((loss, taken(model), metrics))
    assert results[1][0] == pytest.approx(results[0][0], rel=0.02)
    assert relative(results[1][1], results[0][1]) < 0.1
    assert ("gradient_scale" in results[1][2]) == (kind == "float16")


def test_the_loss_of_vectors_in_half_precision_is_computed_in_float32():
    torch.manual_seed(0)
    rows = torch.randn(24, 8).bfloat16()
    weight = torch.nn.Parameter(torch.eye(8).bfloat16())
    wide = rows.float().requires_grad_()

    def loss_of(vectors):
        first, second = torch.arange(24).chunk(2)
        return contrastive.info_nce(vectors, first, second, torch.arange(12), 0.02)

    loss, _ = contrastive.cached_backward(lambda chunk: chunk @ weight, rows.split(7), loss_of, keep=1)
    expected = loss_of(wide)[0]
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(weight.grad.float(), rows.float().T @ wide.grad, rtol=0.05, atol=0.1)


def test_a_chunk_must_give_a_vector_for_each_row():
    with pytest.raises(ValueError, match="3 rows of chunk 0 gave 1 vectors"):
        contrastive.cached_backward(lambda chunk: chunk[:1], torch.randn(6, 4).split(3), None, keep=0)


def test_a_scale_that_overflows_is_lowered(llama, monkeypatch):
    chosen = tiny(**{"backbone.dtype": "float16", "lora.dropout": 0})
    llama.model.half()
    model, trainable = train.prepare(chosen, llama)
    real, tried = train.backward, []

    def overflows(model, batch, settings, run, largest):
        loss, metrics = real(model, batch, settings, run, largest)
        tried.append(largest)
        if largest == 1.0:
            next(iter(trainable.values())).grad[0] = torch.inf
        return loss, metrics

    monkeypatch.setattr(train, "backward", overflows)
    batch = batches.Batch(CORPUS[:8], model, chosen.train)
    _, metrics = train.gradients(chosen, model, batch, chosen.train, trainable)
    assert tried == [1.0, 2.0**-6] and math.isfinite(metrics["gradient_norm"])


def by_autograd(vectors, queries, documents, positives, temperature, excluded, symmetric):
    """The loss as it is written down, all cosines at once."""
    units = F.normalize(vectors, dim=1)
    cosine = (units[queries] @ units[documents].T) / temperature
    loss = F.cross_entropy(cosine.masked_fill(excluded, -torch.inf), positives)
    if symmetric:
        banned = (positives[:, None] == positives) | excluded[:, positives].T
        banned.fill_diagonal_(False)
        back = cosine.T[positives].masked_fill(banned, -torch.inf)
        loss = (loss + F.cross_entropy(back, torch.arange(len(queries)))) / 2
    return loss


@settings(max_examples=40)
@given(
    queries=st.integers(1, 9), more=st.integers(0, 9), symmetric=st.booleans(), sparse=st.booleans(),
    most=st.sampled_from([1, 40, 10**6]), temperature=st.sampled_from([0.02, 1.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_loss_and_gradient_are_those_of_autograd(queries, more, symmetric, sparse, most, temperature, seed):
    """In blocks of any size; a text may be query and document, or serve several queries; masks."""
    torch.manual_seed(seed)
    vectors = (torch.randn(12, 6).double() * 3).requires_grad_()
    rows, columns = torch.randint(12, (queries,)), torch.randint(12, (queries + more,))
    positives = torch.randint(len(columns), (queries,))
    excluded = torch.rand(queries, len(columns)) < 0.2
    excluded[torch.arange(queries), positives] = False
    expected = by_autograd(vectors, rows, columns, positives, temperature, excluded, symmetric)
    (slope,) = torch.autograd.grad(expected, vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "SIMILARITIES", most)
        mask = excluded.to_sparse() if sparse else excluded
        loss, metrics = contrastive.info_nce(vectors, rows, columns, positives, temperature, mask, symmetric)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    (found,) = torch.autograd.grad(loss * 3, vectors, retain_graph=True)
    assert torch.allclose(found, 3 * slope, rtol=1e-9, atol=1e-12)
    cosine = F.cosine_similarity(vectors[rows][:, None], vectors[columns][None], dim=2)
    right = cosine.masked_fill(excluded, -2).argmax(1) == positives
    negatives = cosine[~excluded.scatter(1, positives[:, None], True)]
    similar = {"positive": cosine.gather(1, positives[:, None]).mean(), "negative": negatives.mean()}
    assert metrics["accuracy"] == pytest.approx(right.double().mean().item())
    for kind, value in similar.items():
        assert metrics[f"{kind}_similarity"] == pytest.approx(value.item(), nan_ok=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(loss, vectors)


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    torch.manual_seed(0)
    q, d, positives = torch.randn(4, 5), torch.randn(6, 5), torch.tensor([3, 0, 5, 3])
    loss, _ = info_nce(q, d, positives, 0.1, symmetric=True)
    cosine = F.cosine_similarity(q[:, None], d[None], dim=-1) / 0.1
    there = F.cross_entropy(cosine, positives)
    back = cosine.T[positives]
    back[0, 3] = back[3, 0] = -torch.inf  # both have document 3: neither is a negative of the other
    assert loss.item() == pytest.approx((there + F.cross_entropy(back, torch.arange(4))).item() / 2, rel=1e-6)


def test_what_is_masked_is_counted(llama):
    same = [example(1, query="q", positive="p one"), example(2, query="q", positive="p two"),
            example(3, positive="p one", negative="q")]  # fmt: skip
    batch = batches.Batch(same, llama, tiny().train)
    # Each of the first two is a known positive of the other's query; "q" as a document is the query
    # itself, twice; "p one" occurs twice, one column of three pairs less.
    assert batch.masked == 2 + 2 + 3
    assert len(batch.document_rows) == 5 and batch.positives.tolist() == [0, 1, 0]
    bare = batches.Batch(same, llama, tiny(**{"train.mask_known_positives": False}).train)
    assert bare.masked == 0 and bare.excluded is None and len(bare.document_rows) == 6


def test_only_queries_carry_the_instruction(llama):
    settings = tiny().train
    batch = batches.Batch([example(1)], llama, settings)
    tokenizer = llama.contract.tokenizer
    texts = [tokenizer.decode(row[1:-1]) for chunk in batch.chunks for row in chunk]
    assert sorted(t.startswith("Instruct: Find it\nQuery: ") for t in texts) == [False, False, True]


@pytest.mark.parametrize(
    ("style", "family", "expected"),
    [
        ("natural", "sts", "Instruct: Find it\nQuery: query 1"),
        ("none", "sts", "query 1"),
        ("task-type", "long-short", "classify: query 1"),
        ("task-type", "short-short", "query: query 1"),
        ("task-type", "bitext", "query 1"),
    ],
)
def test_query_styles_of_table_5(style, family, expected):
    assert instructions.query_text(example(1, family=family), style) == expected


def test_schedule_warms_up_and_decays():
    settings = tiny(**{"train.learning_rate": 1.0, "train.warmup_steps": 100}).train
    rates = [train.learning_rate(settings, s, 900) for s in range(900)]
    assert rates[0] == pytest.approx(0.01) and rates[99] == pytest.approx(1.0) == max(rates)
    assert rates[-1] == pytest.approx(1 / 800) and rates[500] == pytest.approx(0.5)


def test_every_example_is_used_once_an_epoch():
    batch_of = batches.schedule(tiny().train, CORPUS, 1)
    epoch = [e.id for step in range(3) for e in batch_of(step)]
    assert sorted(epoch) == sorted(e.id for e in CORPUS)
    other = [e.id for step in range(3, 6) for e in batch_of(step)]
    assert sorted(other) == sorted(epoch) and other != epoch


def test_training_lowers_the_loss_and_moves_the_adapter(llama, tmp_path):
    trained = train.train(tiny(**{"train.epochs": 12}), llama, CORPUS, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 37))
    losses = [line["loss"] for line in log]
    assert sum(losses[-9:]) < 0.9 * sum(losses[:9])
    assert set(log[0]) >= {
        "loss", "accuracy", "positive_similarity", "negative_similarity", "lr", "gradient_norm", "masked",
        "tokens", "tokens_per_s", "mfu", "peak_memory_gb", "eta_s",
    }  # fmt: skip
    assert any(p.abs().max() > 0 for n, p in trained.model.named_parameters() if "lora_B" in n)


def test_an_adapter_that_did_not_move_is_an_error(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(batches.TrainingError, match="the adapter has not moved: lora_B is still zero"):
        train.train(tiny(**{"train.max_steps": 1}), llama, CORPUS, tmp_path)


def _infinite(model, *rest):
    result = contrastive_backward(model, *rest)
    next(p for p in model.model.parameters() if p.requires_grad).grad[0] = torch.inf
    return result


def test_a_loss_that_is_not_finite_names_the_batch(llama, tmp_path, monkeypatch):
    real = train.backward
    for broken, says in ((lambda *a: (math.nan, real(*a)[1]), "the loss is nan"), (_infinite, "norm inf")):
        monkeypatch.setattr(train, "backward", broken)
        with pytest.raises(
            batches.TrainingError, match=rf"step 1: .*{says}.*; examples of the batch: (e\d+ ?){{8}}$"
        ):
            train.train(tiny(), fresh(llama), CORPUS, tmp_path)


def test_full_fine_tuning_moves_every_matrix(llama, tmp_path):
    before = {n: p.clone() for n, p in llama.model.named_parameters()}
    trained = train.train(tiny(**{"train.method": "full", "train.max_steps": 3}), llama, CORPUS, tmp_path)
    assert adapter.merge_lora(trained) is trained
    now = dict(trained.model.named_parameters())
    assert all(not torch.equal(now[n], p) for n, p in before.items() if p.ndim == 2)


def test_qlora_trains_on_four_bits_and_ends_on_the_base_as_it_was(tmp_path):
    """Only where bitsandbytes is installed."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from tiny_models import byte_tokenizer
    from transformers import AutoModel, LlamaConfig

    config = LlamaConfig(vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)  # fmt: skip
    AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    byte_tokenizer("llama").save_pretrained(tmp_path / "base")
    chosen = tiny(**{"backbone.model": str(tmp_path / "base"), "train.method": "qlora", "train.epochs": 1})
    base, plain_base = (backbones.load(chosen.backbone) for _ in range(2))
    trained = train.train(chosen, base, CORPUS, tmp_path / "run")
    small = [m for m in base.model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(small) == 2 * 7
    merged = dict(adapter.merge_lora(trained).model.named_parameters())
    for name, weight in plain_base.model.named_parameters():
        assert merged[name].dtype == torch.float32
        assert torch.equal(merged[name], weight) != ("proj" in name), name


def test_a_missing_package_is_named_before_anything_runs(llama, tmp_path, monkeypatch):
    for name in ("wandb", "trackio", "tensorboard", "bitsandbytes"):
        monkeypatch.setitem(sys.modules, name, None)
        changes = {"train.method": "qlora"} if name == "bitsandbytes" else {"train.trackers": [name]}
        with pytest.raises(
            (trackers.TrackerError, embedded.BackboneError), match=rf"not installed: pip install {name}"
        ):
            train.train(tiny(**changes), llama, CORPUS, tmp_path)
        assert not (tmp_path / "log.jsonl").exists()


def test_trackers_get_every_step(llama, tmp_path, monkeypatch):
    """A stand-in with the interface that wandb and trackio share."""
    seen = []
    stand_in = types.SimpleNamespace(
        init=lambda **options: seen.append(options["project"]),
        log=lambda values, step: seen.append((step, values["loss"])),
        finish=lambda: seen.append("end"),
    )
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    train.train(tiny(**{"train.trackers": ["trackio"]}), llama, CORPUS, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert seen == ["synthembed", *((x["step"], x["loss"]) for x in log), "end"]


class NoFloat64(TorchDispatchMode):
    """As Apple's GPUs have none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            assert not isinstance(made, torch.Tensor) or made.dtype != torch.float64, func
        return out


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_step_makes_no_float64(llama, symmetric):
    plan = tiny(**{"train.symmetric": symmetric})
    model = train.prepare(plan, llama)[0]
    with NoFloat64():
        batch = batches.Batch(CORPUS[:8], model, plan.train, 1)
        loss, metrics = contrastive_backward(model, batch, plan.train, train.vectors_of(plan))
    assert math.isfinite(loss) and 0 <= metrics["accuracy"] <= 1


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_pretraining_moved_is_in_the_model_that_is_left(tiny_folder, tmp_path, monkeypatch, method):
    """Of QLoRA without bitsandbytes: its base is rounded, and loaded again at the end."""
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"title": f"title {n}", "body": f"what number {n} says " * 3} for n in range(16)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(adapter, "quantise", lambda base, targets: None)
    first = {"train.max_steps": 3, "lora.rank": 2}
    base = {"backbone.model": str(tiny_folder), "backbone.dtype": "float32", "lora.dropout": 0,
            "train.max_steps": 1, "pretrain": {"source": str(pairs), "set": first}}  # fmt: skip
    found = {}
    for name in ("lora", method):
        plan = tiny(**base, **{"train.method": name})
        trained = train.train(plan, backbones.load(plan.backbone), CORPUS, tmp_path / name)
        with pytest.raises(embedded.BackboneError, match="adapter of a pre-trained base"):
            export.export_adapter(trained, tmp_path / "adapter")
        found[name] = dict(adapter.merge_lora(trained).model.named_parameters())
    plain = dict(backbones.load(plan.backbone).model.named_parameters())
    for name, weight in found["lora"].items():
        torch.testing.assert_close(found[method][name], weight, atol=1e-6, rtol=1e-5)
        assert "proj" not in name or not torch.allclose(weight, plain[name], atol=1e-4)


def test_an_adapter_of_which_a_part_has_not_moved_is_named():
    moved = {"a.lora_B.weight": torch.ones(2), "b.q_proj.lora_B.weight": torch.zeros(2)}
    with pytest.raises(train.TrainingError, match=r"1 of 2 adapters have not moved: .* that of b\.q_proj"):
        train.check_moved(moved)
