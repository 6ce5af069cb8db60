"""The command line: errors that help."""

import os
import shutil
import subprocess
import sys

import pytest
import typer
from synthembed.commands.command_line import app
from synthembed.commands.options import show
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT
from synthembed.stages.definitions import BEYOND, ITS_INPUTS, STAGES
from typer.testing import CliRunner


def test_the_command_explains_itself_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "synthembed", "run", "--profile", "smoke", "--set", "train.batchsize=4"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "unknown key train.batchsize; did you mean 'batch_size'?" in done.stderr


def test_a_console_that_lacks_a_sign_ends_nothing(monkeypatch):
    import io

    from synthembed.commands import command_line

    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    command_line.prepare()
    print("Avg – 雪")
    narrow.flush()
    assert narrow.buffer.getvalue().decode() == "Avg \\u2013 \\u96ea\n"


def test_certificates_that_cannot_be_loaded_are_named(tmp_path, monkeypatch, capsys):
    from synthembed.commands.options import plain_errors
    from synthembed.generation.paid import endpoint
    from synthembed.profile.generate_settings import Generate

    (tmp_path / "text.pem").write_text("no certificate at all")
    for place in (tmp_path / "nowhere.pem", tmp_path, tmp_path / "text.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(place))
        with pytest.raises(typer.Exit), plain_errors():
            endpoint.client(Generate(backend="live", base_url="https://llm.example/v1"))
        said = capsys.readouterr().err
        assert said.startswith(f"SSL_CERT_FILE = {str(place)!r} cannot be used") and "unset it" in said


def test_certificates_are_not_named_where_another_file_is_meant(tmp_path, monkeypatch, capsys):
    import ssl

    from synthembed.commands.options import plain_errors

    (tmp_path / "text.pem").write_text("no certificate at all")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "text.pem"))
    for place, said in ((tmp_path / "text.pem" / "below", "Not a directory"), (tmp_path, "Is a directory")):
        with pytest.raises(typer.Exit), plain_errors():
            open(place, "w")
        assert said in (told := capsys.readouterr().err) and "SSL_CERT_FILE" not in told
    with pytest.raises(typer.Exit), plain_errors():
        raise FileNotFoundError("nothing has been trained yet")
    assert capsys.readouterr().err == "nothing has been trained yet\n"
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: None)  # a file that can be loaded
    with pytest.raises(typer.Exit), plain_errors():
        raise OSError(28, "No space left on device")
    assert "SSL_CERT_FILE" not in capsys.readouterr().err


def test_a_profile_of_the_shells_folder_runs_from_there(tmp_path):
    """Its own overrides and paths with it: the notebook sees what the shell sees."""
    (tmp_path / "mine.yaml").write_text("extends: smoke\nname: a-profile-of-the-shell\n", encoding="utf-8")
    code = "import sys; from pathlib import Path; from synthembed.stages import runner; "
    code += f"runner.run_stages('./mine.yaml', ['backbone.model=./base'], '', ['00_overview'], Path({str(tmp_path)!r}) / 'out')"
    (tmp_path / "base").mkdir()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (tmp_path / "out").rglob("00_overview/stage.json")
    assert f'"model": "{tmp_path / "base"}"' in record.read_text(encoding="utf-8")


def test_windows_itself_is_refused_in_a_sentence(monkeypatch, capsys):
    from synthembed.commands import command_line

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(typer.Exit):
        command_line.run(["smoke"])
    assert "use WSL 2" in capsys.readouterr().err


def test_rendering_a_report_again_leaves_a_finished_stage_as_it_is(tmp_path):
    shutil.copytree(ROOT / "results" / "laptop", tmp_path / "laptop")
    stage = tmp_path / "laptop" / "07_report"
    before = {p: p.read_bytes() for p in stage.rglob("*") if p.is_file()}
    done = subprocess.run(
        [sys.executable, "-m", "synthembed", "report", "--run", "laptop"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"SYNTHEMBED_RUNS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p: p.read_bytes() for p in stage.rglob("*") if p.is_file()} == before
    assert (tmp_path / "laptop" / "rendered" / "07_report" / "report.html").exists()
    assert (
        "came out equal" in done.stdout
    )  # the run, not the folder of its report, stands beside the committed one


def test_a_report_of_the_committed_run_is_not_set_beside_itself(tmp_path, capsys):
    tables = tmp_path / "laptop" / "07_report" / "tables"
    tables.mkdir(parents=True)
    (tables / "verdicts.md").write_text("| artefact |")
    show(tmp_path / "laptop", ROOT / "results" / "laptop")
    said = capsys.readouterr().out
    assert "| artefact |" in said and "Beside the committed run" not in said


def test_options_of_which_one_would_do_nothing_are_refused(tmp_path):
    for asked, said in (
        (["run", "--only", "03_train", "--from", "04"], "leave --from out"),
        (["export", str(tmp_path / "out"), "--run", "mine", "--model", "x"], "give one of the two"),
    ):
        found = CliRunner().invoke(app, asked)
        assert found.exit_code == 2 and said in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [(["--field", "body"], "a.txt is read by lines"), (["--storage", "x"], "give --workers"), (["--address", "auto"], "--workers")],
)  # fmt: skip
def test_an_option_of_encode_that_would_do_nothing_is_refused(tmp_path, given, said):
    (tmp_path / "a.txt").write_text("the bees\n")
    asked = ["encode", str(tmp_path / "a.txt"), str(tmp_path / "a.npy"), "--model", "nowhere", *given]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 2 and said in " ".join(found.output.split())


def test_what_encode_reads_and_writes_is_looked_at_before_the_model(tmp_path, monkeypatch):
    from synthembed.model import backbone

    monkeypatch.setattr(backbone, "load", lambda *_: pytest.fail("the model was loaded first"))
    texts, out = tmp_path / "a.txt", tmp_path / "a.npy"
    asked = lambda *places: CliRunner().invoke(app, ["encode", *map(str, places), "--model", str(tmp_path)])  # noqa: E731
    for there in (texts, tmp_path):
        found = asked(there, out)
        assert found.exit_code == 1 and f"no file {there}: name the file" in found.output
    texts.write_text("the bees\n")
    found = asked(texts, tmp_path / "gone" / "a.npy")
    assert found.exit_code == 1 and f"no folder {tmp_path / 'gone'}: make it first" in found.output
    for name in ("a.parquet", "a.npz", "a.JSONL", "a.npy.gz"):
        found = asked(texts, tmp_path / name)
        assert found.exit_code == 1 and f"{name}: vectors are written as .npy" in found.output


@pytest.mark.parametrize("option", ["--batch-tokens", "--max-length"])
def test_no_tokens_at_all_are_refused_and_are_not_the_default(tmp_path, option):
    (tmp_path / "a.txt").write_text("the bees\n")
    asked = ["encode", str(tmp_path / "a.txt"), str(tmp_path / "a.npy"), "--model", "nowhere", option, "0"]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 2 and f"Invalid value for '{option}'" in found.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["encode", "a.txt", "a.npy", "--model", "x", "--workers", "1", "--address", "nowhere"], "--address 'nowhere': write local, auto"),
        (["encode", "a.txt", "a.npy", "--model", "x", "--workers", "-1"], "--workers -1: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_a_value_that_settings_refuse_is_told_by_its_option(given, said):
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 2 and isinstance(found.exception, SystemExit)
    assert found.stderr.startswith(said)


def test_what_settings_refuse_in_a_section_or_as_a_whole_is_told_as_well(capsys):
    from synthembed.commands.options import plain_errors
    from synthembed.profile.cluster import Cluster
    from synthembed.profile.settings import Profile

    with pytest.raises(typer.Exit), plain_errors():
        Profile(name="verify", evaluate={"protocol": "foo"})  # as `verify` makes it
    assert capsys.readouterr().err.startswith("--protocol 'foo': Input should be 'paper' or 'mteb-default'")

    with pytest.raises(typer.Exit), plain_errors():
        Cluster(workers=1, min_workers=2)
    assert capsys.readouterr().err == "min_workers = 2 is more than workers = 1\n"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of runs that are nobody's: one's own, and the committed ones."""
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(run_folders, "committed", lambda: tmp_path / "results")
    return tmp_path / "runs", tmp_path / "results"


def finish(run, stages):
    for stage in stages:
        (run / stage).mkdir(parents=True, exist_ok=True)
        (run / stage / "stage.json").write_text('{"status": "done"}')


def test_a_run_whose_name_is_no_profiles_is_kept(folders):
    """By the stages that it has, for experiments alone as well; one that lacks some is not."""
    runs, results = folders
    whole = [stage for stage in STAGES if stage != BEYOND]
    for name, stages in (("warmer", whole), ("further", [*ITS_INPUTS, BEYOND])):
        finish(runs / name, stages)
        found = CliRunner().invoke(app, ["keep", name])
        assert found.exit_code == 0 and "now commit it" in found.output, found.output
        assert {p.name for p in (results / name).iterdir()} == set(stages)
    finish(runs / "begun", ITS_INPUTS)
    found = CliRunner().invoke(app, ["keep", "begun"])
    assert found.exit_code == 1 and "is not finished" in found.output and not (results / "begun").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", ""])
def test_what_is_kept_is_one_folder_among_the_committed_ones(folders, name):
    runs, results = folders
    finish(runs / name, STAGES)
    found = CliRunner().invoke(app, ["keep", name])
    assert found.exit_code == 1 and "name" in found.output and not results.exists()


def test_stages_that_are_named_run_in_their_order_and_once(tmp_path, monkeypatch):
    from synthembed.stages import runner

    asked = []
    monkeypatch.setattr(runner, "run_stages", lambda *given: asked.append(given[3]) or tmp_path)
    named = ["--only", "03", "--only", "02_analyze", "--only", "train"]
    assert CliRunner().invoke(app, ["run", "--profile", "smoke", *named]).exit_code == 0
    assert asked == [["02_analyze", "03_train"]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["board", "--by", "Ada"], "--add RUN"),
        (["board", "--note", "a line"], "--add RUN"),
        (["publish", "--to", "out", "--public"], "--hub OWNER/NAME"),
        (["publish", "--to", "out", "--hub", "name-alone"], "OWNER/NAME"),
    ],
)
def test_what_a_review_command_cannot_use_is_refused_before_it_works(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 2 and said in " ".join(done.output.split()) and not list(tmp_path.iterdir())
