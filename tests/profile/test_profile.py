"""Profiles: what is refused, and how it is said."""

import pytest
from synthembed import profile
from synthembed.profile.reading import ProfileError


@pytest.mark.parametrize("name", ["smoke", "laptop", "overnight", "gpu", "paper"])
def test_shipped_profiles_load(name):
    assert profile.load(name).name == name


def test_defaults_are_the_papers_settings():
    paper, defaults = profile.load("paper"), profile.Profile(name="paper")
    for section in ("generate", "analyze", "backbone", "lora", "train", "evaluate", "seed"):
        assert getattr(paper, section) == getattr(defaults, section), section


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.temprature=0.1", "did you mean 'temperature'"),
        ("train.temperature=0", "train.temperature = 0: input should be greater than 0"),
        ("lora.rank=0", "lora.rank = 0"),
        ("train.batch_size=many", "train.batch_size = 'many'"),
        ("generate.languages=[en,xx]", "language 'xx' is not one of the 93"),
        ("generate.families={short-long: 0}", "at least one family needs a share"),
        ("generate.placeholders={sts: {colour: [red]}}", "family 'sts' has no placeholder 'colour'"),
        ("backbone.model.x=1", "'model' is a single value"),
        ("nonsense", "write it as section.key=value"),
        ("train.learning_rate=.nan", "finite"),
        (
            "name=7",
            "name = 7: input should be a valid string; quoted it is a text, in a shell as in \"name='7'\"",
        ),
        ("seeds=1,2", "seeds = '1,2': input should be a valid list; a list stands in brackets"),
        ("evaluate.tasks=STS12", "in quotes: [a, 'b, c']"),
    ],
)
def test_bad_overrides_name_key_value_and_remedy(override, said):
    with pytest.raises(ProfileError) as error:
        profile.load("laptop", [override])
    assert said in str(error.value)


def test_errors_in_a_file_name_file_and_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\ntrain:\n  batch_size: 4\n  learnign_rate: 0.1\n")
    with pytest.raises(ProfileError) as error:
        profile.load(path)
    assert "mine.yaml:4: unknown key train.learnign_rate; did you mean 'learning_rate'?" in str(error.value)


def test_invalid_yaml_and_unknown_profile(tmp_path):
    path = tmp_path / "torn.yaml"
    path.write_text("train: [")
    with pytest.raises(ProfileError, match=r"torn\.yaml: not valid YAML"):
        profile.load(path)
    with pytest.raises(ProfileError, match="use one of adapt, beyond, gpu, laptop, overnight, paper, smoke"):
        profile.load("labtop")


def test_an_impossible_ablation_fails_when_the_profile_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("ablations: {rows: [{id: a, set: {lora.rank: 0}}]}")
    with pytest.raises(ProfileError, match=r"ablation 'a'.*lora\.rank"):
        profile.load(path)


def test_overrides_replace_and_change_the_hash():
    plain, changed = profile.load("laptop"), profile.load("laptop", "train.batch_size=8 seed=3")
    assert (changed.train.batch_size, changed.seed) == (8, 3)
    assert plain.hash() != changed.hash() and plain.hash("lora") == changed.hash("lora")


def test_a_profile_that_extends_another_says_only_what_differs(tmp_path):
    (tmp_path / "under.yaml").write_text(
        "description: under\ntrain: {batch_size: 8, max_length: 64}\nseeds: [1, 2]\n"
    )
    over = tmp_path / "over.yaml"
    over.write_text(f"extends: {tmp_path / 'under.yaml'}\nseeds: [3]\ntrain: {{max_length: 32}}\n")
    found = profile.load(over, ["train.learning_rate=0.5"])
    assert (found.name, found.description, found.seeds) == ("over", "", [3])
    assert (found.train.batch_size, found.train.max_length, found.train.learning_rate) == (8, 32, 0.5)
    over.write_text(f"extends: {over}\n")
    with pytest.raises(profile.ProfileError, match="extends itself"):
        profile.load(over)
    over.write_text("extends: [a, b]\n")
    with pytest.raises(profile.ProfileError, match=r"over.yaml:1: extends"):
        profile.load(over)
    over.write_text("extends: nowhere\n")
    with pytest.raises(profile.ProfileError, match="no profile 'nowhere'"):
        profile.load(over)


@pytest.mark.parametrize("nothing", ["", "~", "null", "''", "' '"])
def test_a_profile_that_extends_nothing_is_told_with_its_line(tmp_path, nothing):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"seed: 1\nextends: {nothing}\n")
    with pytest.raises(ProfileError, match=r"mine\.yaml:2: extends = .*: name one profile, or leave"):
        profile.load(mine)


def test_a_file_without_settings_is_no_profile_of_the_papers_settings(tmp_path):
    mine = tmp_path / "mine.yaml"
    for nothing in ("", "\n", "# seed: 1\n", "---\n"):
        mine.write_text(nothing)
        with pytest.raises(ProfileError, match=r"mine\.yaml: empty, .* extends: laptop"):
            profile.load(mine)
    for other in ("[]", "0"):
        mine.write_text(other)
        with pytest.raises(ProfileError, match=r"mine\.yaml: expected keys and values"):
            profile.load(mine)
    mine.write_text("{}")
    assert profile.load(mine).train == profile.Profile(name="mine").train


def test_paths_are_the_shells_or_lie_beside_the_profile(tmp_path, monkeypatch):
    shell, beside = tmp_path / "shell", tmp_path / "profiles"
    for folder in (shell, beside):
        folder.mkdir()
        (folder / "corpus.jsonl").write_text(folder.name)
    (beside / "pairs.jsonl").write_text("pairs")
    settings = (
        "analyze: {corpus: {source: corpus.jsonl, format: synembed}}\npretrain: {source: pairs.jsonl}\n"
    )
    (beside / "mine.yaml").write_text(
        settings + "ablations: {rows: [{id: a, set: {pretrain: {source: ./pairs.jsonl}}}]}\n"
    )
    monkeypatch.chdir(shell)
    found = profile.load("../profiles/mine.yaml")
    assert found.analyze.corpus.source == str(shell / "corpus.jsonl")
    assert found.pretrain.source == str(beside / "pairs.jsonl")
    assert found.ablations.rows[0].set == {"pretrain": {"source": str(beside / "pairs.jsonl")}}
    (beside / "over.yaml").write_text("extends: mine.yaml\n")
    assert profile.load("../profiles/over.yaml").pretrain.source == str(beside / "pairs.jsonl")


def test_a_local_input_that_was_edited_changes_the_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    mine = profile.load("smoke", ["backbone.model=./base"])
    row = {"rows": [{"id": "a", "set": {"backbone.model": str(tmp_path / "base")}}]}
    other = profile.load("smoke", {"ablations": row})
    before = mine.hash("backbone"), mine.hash("train"), mine.hash(), other.hash("ablations")
    (tmp_path / "base" / "config.json").write_text('{"edited": true}')
    after = mine.hash("backbone"), mine.hash("train"), mine.hash(), other.hash("ablations")
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, False, True, True]


def test_so_does_a_corpus_that_a_row_of_an_experiment_names(tmp_path):
    mine, corpus = tmp_path / "mine.yaml", tmp_path / "corpus.jsonl"
    corpus.write_text("{}")
    rows = "[{id: a}, {id: b, corpus: corpus.jsonl}, {id: c, corpus: ./dropped/refusals}]"
    question = f"{{id: q, question: which, varied: corpus, held: all, rows: {rows}}}"
    mine.write_text(f"extends: smoke\nexperiments: {{questions: [{question}]}}\n")
    found = profile.load(mine)
    assert found.experiments.questions[0].rows[1].corpus == str(corpus)
    before = found.hash("experiments"), found.hash("train")
    corpus.write_text("[]")
    after = found.hash("experiments"), found.hash("train")
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, False]


def test_a_bare_name_that_is_nowhere_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(profile.ProfileError, match=r"override .*backbone.model.*write hub:models/base"):
        profile.load("smoke", ["backbone.model=models/base"])
    assert profile.load("smoke", ["backbone.model=hub:models/base"]).backbone.model == "hub:models/base"


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("generate: {budget_usd: 3}\nseed: 1\ngenerate:\n  examples: 2\n")
    with pytest.raises(ProfileError, match=r"mine\.yaml: .*'generate' stands twice, in lines 1 and 3"):
        profile.load(path)
    path.write_text("generate:\n  models: {a: 1, b: 1, a: 2}\n")
    with pytest.raises(ProfileError, match="'a' stands twice, in line 2"):
        profile.load(path)
    with pytest.raises(ProfileError, match="'x' stands twice"):
        profile.load("smoke", ["generate.models={x: 1, x: 2}"])


def test_norwegian_is_a_language_and_yes_is_still_a_switch(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "generate: {languages: [en, no]}\nanalyze: {leakage: yes, refusals: off, near_duplicates: true}\n"
    )
    found = profile.load(path)
    assert found.generate.languages == ["en", "no"]
    assert (found.analyze.leakage, found.analyze.refusals, found.analyze.near_duplicates) == (
        True,
        False,
        True,
    )
    assert profile.load("smoke", ["generate.languages=[no, sv]"]).generate.languages == ["no", "sv"]
    assert profile.load("smoke", ["train.learning_rate=1e-4"]).train.learning_rate == 1e-4


def test_one_model_of_a_mix_has_settings_of_its_own():
    mix = "generate.models={a: 1, b: 1}"
    found = profile.load("gpu", [mix, "generate.for_model={b: {temperature: null, token_limit: max_tokens}}"])
    of_b = found.generate.of("b")
    assert (of_b.temperature, of_b.token_limit, of_b.top_p) == (None, "max_tokens", 1.0)
    assert found.generate.of("a").temperature == 1.0
    for changes, said in [
        ("{c: {temperature: 1}}", "for_model has 'c', which is none of models: a, b"),
        ("{a: {examples: 1}}", "examples cannot differ by model"),
        ("{a: {temperature: 9}}", "temperature = 9"),
    ]:
        with pytest.raises(ProfileError, match=said):
            profile.load("gpu", [mix, f"generate.for_model={changes}"])
