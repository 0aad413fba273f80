"""The whole line with a judge that is asked over HTTP: what it says is what the table says, and a second run asks nothing."""

import json

import killed
import pytest
from loopback_judge import LoopbackJudge, Reply

pytestmark = pytest.mark.slow
EXAMPLES = 30


def medrl(folder, endpoint, *words):
    return killed.ended(
        *("hardware=cpu", "algo=none", "data_mix=medical_o1_verifiable", "judge=openai", "source.train_rows=200"),
        *(f"judge.base_url={endpoint.url}", f"judge.limits.cache={folder / 'verdicts'}", f"eval.limit={EXAMPLES}"),
        *(f"runs={folder / 'runs'}", *words),
        OPENAI_API_KEY="sk-loopback",
    )


def metrics_of(folder):
    (path,) = folder.glob("runs/*/metrics.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def endpoint():
    with LoopbackJudge() as judge:
        yield judge


def test_the_table_says_what_the_judge_said_and_a_second_run_asks_nothing(tmp_path, endpoint):
    labels = [("flu", "flu", True), ("flu", "cold", False), ("gout", "gout", False)]  # of the last the endpoint thinks otherwise
    sample = tmp_path / "labels.jsonl"
    sample.write_text(
        "".join(json.dumps({"question": "?", "gold": g, "answer": a, "right": r}) + "\n" for g, a, r in labels), encoding="utf-8"
    )
    first = medrl(tmp_path, endpoint, f"judge.calibration_file={sample}")
    assert first.returncode == 0, first.stdout
    metrics = metrics_of(tmp_path)
    task, judge = metrics["tasks"]["medical_o1_verifiable"], metrics["judge"]
    (lines,) = (tmp_path / "runs").glob("*/eval/*.jsonl")
    written = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    answered = [line for line in written if line["verdict"] in ("right", "wrong")]
    assert len(written) == EXAMPLES and answered
    # The endpoint compares strings, which no other code of this run does.
    assert all((line["verdict"] == "right") == (line["answer"] == line["gold"]) for line in answered)
    assert task["accuracy"] == sum(line["verdict"] == "right" for line in written) / EXAMPLES
    assert task["scorer"] == "judged by openai" and "judged by openai" in first.stdout
    asked = {request.claim["question"] + request.claim["answer"] for request in endpoint.requests}
    assert judge["calls"]["sent"] == judge["calls"]["answered"] == len(endpoint.requests) == len(asked)
    assert judge["agreement"]["n"] == 3 and judge["agreement"]["rate"] == pytest.approx(2 / 3)

    count = len(endpoint.requests)
    again = medrl(tmp_path, endpoint, f"judge.calibration_file={sample}", "force=true")
    assert again.returncode == 0, again.stdout
    assert len(endpoint.requests) == count
    assert metrics_of(tmp_path)["judge"]["calls"]["sent"] == 0
    assert metrics_of(tmp_path)["tasks"]["medical_o1_verifiable"] == task


@pytest.mark.parametrize(
    ("failure", "code", "reply"), [("stop", 1, Reply(status=500)), ("abstain", 0, Reply(content="It is the same: true"))]
)
def test_a_judge_that_fails_stops_or_abstains_and_never_compares_strings(tmp_path, endpoint, failure, code, reply):
    endpoint.otherwise = reply
    ended = medrl(tmp_path, endpoint, f"judge.failure={failure}", "judge.limits.attempts=2", "eval.limit=4")
    assert ended.returncode == code and "Traceback" not in ended.stdout
    if failure == "stop":
        host = endpoint.url.split("/")[2]
        assert host in ended.stdout and "run the same command again" in ended.stdout and "judge.failure=abstain" in ended.stdout
        return
    task = metrics_of(tmp_path)["tasks"]["medical_o1_verifiable"]
    assert task["accuracy"] == 0.0 and task["ungraded"] > 0 and "Ungraded:" in ended.stdout


def test_a_missing_key_is_said_before_anything_is_asked(tmp_path, endpoint):
    ended = medrl(tmp_path, endpoint, "judge.api_key_env=NO_SUCH_KEY")
    assert ended.returncode == 1 and "NO_SUCH_KEY" in ended.stdout and "Traceback" not in ended.stdout
    assert not endpoint.requests and not list(tmp_path.glob("runs/*/eval/*"))
