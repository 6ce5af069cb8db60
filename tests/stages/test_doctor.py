"""The doctor: what an endpoint says, and how long a profile will take."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from synthembed import profile
from synthembed.stages import doctor
from synthembed.stages.planning import forecast
from synthembed.training.gpu_cost import MISTRAL_7B

LAPTOP = forecast.gpu_cost.Shape(640, 2048, 12, 4, 1, 256, 262_144)  # twelve layers of Gemma-3-270M
RATE = 2 * 197e9  # two cores in bfloat16, docs/decisions.md
STAGES = ("03_train", "04_evaluate", "05_ablations", "06_long_context")
# (operations a second of two cores, what the stages' minutes were in a run that had them to itself)
MEASURED = {"bfloat16": (RATE, (5.08, 13.37, 18.62, 0.69)), "float32": (116e9, (11.87, 34.0, 45.02, 1.58))}


@pytest.fixture
def models():
    """An endpoint that lists its models to whoever has the key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Bearer sk-right"
            body = json.dumps({"data": [{"id": "gpt-x", "object": "model"}], "object": "list"}).encode()
            self.send_response(200 if known else 401)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body if known else b'{"error": {"message": "no such key"}}')

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def asked(url: str, model: str = "gpt-x") -> list[str]:
    settings = ["generate.backend=live", f"generate.base_url={url}", f"generate.models={{{model}: 1}}"]
    settings.append("generate.no_budget=true")
    return list(doctor._generation(profile.load("smoke", settings)))


def test_an_endpoint_that_answers_is_no_problem(models, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right\n")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert asked(models) == [] and "answers, and takes the key" in capsys.readouterr().out


def test_what_an_endpoint_refuses_or_lacks_is_named_and_no_key_shown(models, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    (said,) = asked(models)
    assert "refuses the key in OPENAI_API_KEY (HTTP 401)" in said and "sk-wrong" not in said
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    (said,) = asked(models, "gpt-y")
    assert "does not list gpt-y; it has gpt-x" in said
    (said,) = asked("http://127.0.0.1:9/v1")
    assert "does not answer" in said
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u2026")
    (said,) = asked(models)
    assert "cannot be sent" in said


class Answers(BaseHTTPRequestHandler):
    status, kind, body = 200, "application/json", b'{"data": [{"id": "gpt-x"}]}'

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("status", "kind", "body", "problem", "printed"),
    [
        (200, "application/json", Answers.body, "", "lists its models without a key; whether it takes the key, the first"),
        (404, "application/json", b"{}", "", "lists no models (HTTP 404); whether it takes the key"),
        (200, "application/json", b'{"data": ["gpt-x"]}', "", "its list of models cannot be read"),
        (200, "text/html; charset=utf-8", b"<html>Log in", "sends a web page in the place of a list", ""),
        (503, "application/json", b"{}", "fails now (HTTP 503)", ""),
    ],
)  # fmt: skip
def test_an_answer_that_says_nothing_of_the_key_is_not_taken_for_a_yes(
    monkeypatch, capsys, status, kind, body, problem, printed
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    handler = type("Handler", (Answers,), {"status": status, "kind": kind, "body": body})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://somebody:a-secret-word@127.0.0.1:{server.server_port}/v1"  # settings take no password
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    said = asked("null")
    out = capsys.readouterr().out
    server.shutdown()
    assert (problem in said[0] if problem else said == []) and printed in out
    assert "takes the key\n" not in out and "a-secret-word" not in out + str(said)


@pytest.mark.parametrize(
    "address", ["http://u:a-secret-word@127.0.0.1:9", "u:a-secret-word@127.0.0.1:9", "u:a/b@c@127.0.0.1:9"]
)
def test_a_proxy_is_named_without_its_password(monkeypatch, capsys, address):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    monkeypatch.setenv("HTTPS_PROXY", address)
    (said,) = asked("https://api.example.org/v1")
    assert "HTTPS_PROXY=" in said and "127.0.0.1:9" in said
    assert "secret" not in said and "u:" not in said


@pytest.mark.parametrize("kind", MEASURED)
def test_the_forecast_of_the_laptop_run_is_within_30_percent(kind):
    rate, measured = MEASURED[kind]
    found = {n.stage: n.seconds / 60 for n in forecast.needs(profile.load("laptop"), LAPTOP, rate, kind)}
    for stage, minutes in zip(STAGES, measured, strict=True):
        assert minutes / 1.3 < found[stage] < minutes * 1.3, (stage, found[stage])


def test_a_busy_machine_is_told_that_its_forecast_is_too_long(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(forecast, "rate_here", lambda *_: (RATE, "bfloat16"))
    for load, told in ((0.5, False), (64.0, True)):
        monkeypatch.setattr(forecast.os, "getloadavg", lambda load=load: (load, 0, 0))
        monkeypatch.setattr(forecast.os, "cpu_count", lambda: 2)
        list(forecast.problems(profile.load("smoke"), LAPTOP, torch.device("cpu")))
        assert ("other programs are at work here" in capsys.readouterr().out) == told


def test_the_papers_run_is_told_to_want_a_gpu(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(forecast, "rate_here", lambda *_: (RATE, "bfloat16"))
    said = list(forecast.problems(profile.load("paper"), MISTRAL_7B, torch.device("cpu")))
    assert any("no GPU: " in problem and "days" in problem for problem in said)
    assert any("GB of memory" in problem for problem in said)
    assert "01_generate" in capsys.readouterr().out


def test_a_folder_of_runs_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "in-the-way").write_text("a file")
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "in-the-way" / "runs"))
    said = [problem for problem in doctor._folders() if "results" in problem]
    assert len(said) == 1 and "set SYNTHEMBED_RUNS to another" in said[0]
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "not" / "there" / "yet"))
    assert not [problem for problem in doctor._folders() if "results" in problem]


def test_what_rows_of_the_ablations_lack_is_named_once(tmp_path, monkeypatch):
    def configuration(model):
        if model == "hub:FacebookAI/xlm-roberta-large":
            raise OSError("it cannot be fetched\nat all")
        return {}

    monkeypatch.setattr(doctor, "_configuration", configuration)
    monkeypatch.chdir(tmp_path)
    paper = profile.load("paper")
    base, pairs = sorted(doctor._rows(paper))[::-1]
    assert (
        base
        == "ablations.rows, xlm-r: backbone.model 'hub:FacebookAI/xlm-roberta-large': it cannot be fetched"
    )
    assert pairs.startswith(
        "ablations.rows, full-pretrained: pretrain.source './data/pretraining' is not there: put"
    )
    assert "fields 'title' and 'body'" in pairs
    (tmp_path / "data" / "pretraining").mkdir(parents=True)
    assert list(doctor._rows(paper)) == [base]


def test_the_doctor_asks_for_the_rows_as_well(monkeypatch):
    monkeypatch.setattr(doctor, "_model", lambda *_: iter(()))
    monkeypatch.setattr(doctor, "_rows", lambda loaded: iter([f"rows of {loaded.name}"]))
    assert "rows of smoke" in list(doctor.problems_of(profile.load("smoke")))


def test_names_that_a_run_would_refuse_are_a_problem():
    assert list(doctor._names(profile.load("smoke"))) == []
    (said,) = doctor._names(profile.load("smoke", ["evaluate.tasks=[EmbeddedTopik]"]))
    assert "EmbeddedTopik" in said


def test_a_kernel_that_ended_by_an_error_of_its_own_is_told_with_it(tmp_path):
    errors = tmp_path / "03_train.stderr"
    errors.write_text(
        'Traceback (most recent call last):\n  File "x"\nzmq.error.ZMQError: Address already in use\n'
    )
    said = doctor.kernel_died("03_train", errors)
    assert "ended with an error of its own: zmq.error.ZMQError: Address" in said and "memory" not in said
    errors.write_text("RuntimeError: in a thread, which was caught\nand it went on\n")
    assert "most likely by the system for want of memory" in doctor.kernel_died("03_train", errors)


def test_trained_weights_are_float32_on_a_cpu_as_well():
    import torch

    laptop, on = profile.load("laptop"), torch.device("cpu")
    whole = profile.load("laptop", ["train.method=full"])
    more = forecast.memory_gb(whole, LAPTOP, on) - forecast.memory_gb(laptop, LAPTOP, on)
    assert 12 < 1e9 * more / LAPTOP.parameters < 21  # gradients and optimiser are 12 bytes a parameter
