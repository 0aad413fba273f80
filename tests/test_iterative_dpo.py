"""DPO in rounds: the reference moves, rounds are kept, and a stopped run goes on in its round."""

import json
import math
import signal
from dataclasses import replace

import pytest
from test_pairs import SMALL, job_of

from medrl import lifecycle
from medrl.config import build, schema
from medrl.errors import Interrupted, UserError
from medrl.evaluation import evaluate
from medrl.files import read_jsonl, write_jsonl
from medrl.jobs.shutdown import GracefulShutdown
from medrl.table.join import joined

LORA = "model.lora={_target_:medrl.models.lora.Lora,rank:8,alpha:16,dropout:0.0,modules:[q_proj,v_proj],rslora:false,dora:false}"
ROUNDS = (
    "algo=iterative_dpo", "algo.rounds=2", "algo.prompts=10", "algo.num_generations=4", "algo.batch_size=2", "algo.max_steps=3",
    "algo.epochs=null", "algo.save_steps=1", "algo.learning_rate=1e-3", "algo.warmup_ratio=0", "algo.keep_rounds=true",
)  # fmt: skip


class StopAfter(GracefulShutdown):
    """A signal that comes once the log has so many lines."""

    def __init__(self, log, lines):
        self.log, self.lines = log, lines
        super().__init__()

    @property
    def signal(self):
        return signal.SIGTERM if len(read_jsonl(self.log)) >= self.lines else None

    @signal.setter
    def signal(self, number):
        assert number is None


def weights(model):
    """The only file of weights of a model's folder."""
    (path,) = model.glob("*.safetensors")
    return path.read_bytes()


def stripped(log):
    return [(line["step"], line["loss"]) for line in read_jsonl(log)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all weights", "lora"])
def test_rounds(compose, tmp_path, kind):
    tree = compose([*SMALL, *ROUNDS, *([LORA] if kind == "lora" else [])])
    job, model = job_of(tree, tmp_path / "train"), tmp_path / "model"
    job.run.algo.train(job, model)
    log, rounds = (read_jsonl(job.folder / name) for name in ("log.jsonl", "rounds.jsonl"))
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    # Policy and reference are one model at the start of a round, and only there.
    assert [math.isclose(line["loss"], math.log(2), abs_tol=1e-6) for line in log] == [True, False, False] * 2
    assert [(line["round"], line["steps"], line["trained"]) for line in rounds] == [(1, 3, True), (2, 6, True)]
    first, second = (read_jsonl(job.folder / f"round-{number}" / "pairs.jsonl") for number in (1, 2))
    assert [len(first), len(second)] == [line["pairs"] for line in rounds]
    ids = [[row.example.id for row in job.run.algo.rows(job.rows, number)] for number in (1, 2)]
    assert {pair["id"] for pair in first} <= set(ids[0]) and {pair["id"] for pair in second} <= set(ids[1]) and ids[0] != ids[1]
    ends = [weights(job.folder / f"round-{number}" / "model") for number in (1, 2)]
    assert ends[0] != ends[1] == weights(model)
    assert not list(tmp_path.rglob("checkpoint-*")) and not list(tmp_path.rglob("ref"))
    check_stopped_and_resumed(tree, tmp_path / "stopped", job, model)


def check_stopped_and_resumed(tree, folder, unbroken, model):
    """Stopped in its second round, the run goes on there and ends with the same weights, bit for bit."""
    stopped = job_of(tree, folder / "train")
    log = stopped.folder / "log.jsonl"
    with pytest.raises(Interrupted, match="Stopped after step 2 of 3, with a checkpoint written"):
        stopped.run.algo.train(replace(stopped, stop=StopAfter(log, 4)), folder / "model")
    assert (stopped.folder / "round-2" / "checkpoint-2").is_dir() and not (folder / "model").exists()
    with log.open("a") as file:  # a step that no checkpoint holds
        file.write(json.dumps({"step": 6, "loss": 0.0}) + "\n")
    rounds = stopped.folder / "rounds.jsonl"
    rounds.write_text(rounds.read_text().replace('"pairs"', '"pears"'))
    again = job_of(tree, folder / "train")
    again.run.algo.train(again, folder / "model")
    assert weights(folder / "model") == weights(model)
    assert stripped(log) == stripped(unbroken.folder / "log.jsonl")
    assert read_jsonl(rounds) == read_jsonl(unbroken.folder / "rounds.jsonl")


def test_rounds_that_are_lost_are_not_passed_over(compose, tmp_path):
    job = job_of(compose([*SMALL, *ROUNDS]), tmp_path / "train")
    write_jsonl(job.folder / "rounds.jsonl", [{"round": 2, "steps": 6}])
    with pytest.raises(UserError, match=r"rounds.jsonl lacks rounds of the 2 that are done; bring it back, or start"):
        job.run.algo._earlier(job, 3)


@pytest.mark.slow
def test_a_round_without_pairs_ends_with_the_round_before(compose, tmp_path, capsys):
    tree = compose([*SMALL, *ROUNDS, "algo.max_steps=1", "algo.keep_rounds=false", "algo.rounds=3"])
    job, model = job_of(tree, tmp_path / "train"), tmp_path / "model"
    flat = {"task": "-", "id": "-", "text": "yes", "finished": True, "tokens": 1, "reward": 1.0, "outcome": "wrong"}
    (job.folder / "round-2").mkdir()
    lines = [json.dumps({"row": row, **flat}) for row in range(10) for _ in range(4)]
    (job.folder / "round-2" / "samples.jsonl").write_text("\n".join(lines) + "\n")
    job.run.algo.train(job, model)
    assert "round    2 has fewer pairs than one batch of 2: training ends with the round before" in capsys.readouterr().out
    first, second = read_jsonl(job.folder / "rounds.jsonl")
    assert first["trained"] and not second["trained"] and second["without_pair"] == 1 and second["steps"] == 1
    assert weights(model) and not (job.folder / "round-1" / "model").exists() and not (job.folder / "round-3").exists()


@pytest.mark.slow
def test_each_kept_round_is_asked_what_the_last_one_is(compose, tmp_path, capsys, monkeypatch):
    words = ["data_mix=dxbench", "reward_set=inverse_rank", "data_mix.rows=20", "eval.limit=6", "eval.max_new_tokens=48"]
    tree = compose([*words, *ROUNDS, "algo.max_steps=1", "algo.rounds=3", "hardware=cpu", f"runs={tmp_path}"])
    found = lifecycle.run(tree)
    folder = schema.run_dir(build.unchecked(tree))
    task = found["tasks"]["dxbench"]
    assert list(task["earlier"]) == ["round-1", "round-2"]
    for which, numbers in task["earlier"].items():
        (file,) = (folder / "eval").glob(f"dxbench-*-{which}-*.jsonl")
        lines = read_jsonl(file)
        assert [line["id"] for line in lines] == [line["id"] for line in read_jsonl(next((folder / "eval").glob("*-trained-*")))]
        assert numbers["accuracy"] == sum(line["verdict"] == "right" for line in lines) / 6
    said = capsys.readouterr().out
    assert (
        said.index("before training") < said.index("after round 1") < said.index("after round 2") < said.index("after training")
    )
    shown = [row.who for row in joined([("here", found)])[0].rows if row.kind == "earlier"]
    assert [who.rpartition(", ")[2] for who in shown] == ["after round 1", "after round 2"]
    assert "After round 2" in (folder / "report.html").read_text("utf-8")
    monkeypatch.setattr(evaluate, "grader_of", lambda run: "another")  # who grades them again, too
    stale = evaluate.graded_otherwise(build.unchecked(tree), folder)
    assert len(stale) == 4 and sum("-round-" in path.name for path in stale) == 2
