"""Killed or stopped at any moment, the same command goes on and ends with the weights of a run that was never stopped."""

import json
import random
import shutil
import signal
import time

import killed
import pytest

from medrl import lifecycle
from medrl.config import build
from medrl.evaluation import evaluate, further
from medrl.files import read_jsonl
from medrl.grading.judges.lexical import Lexical
from medrl.models.generation import Generated, Transformers

COMMON = ("hardware=cpu", "source.train_rows=60", "source.test_rows=10", "data_mix.rows=60")
STEPS = ("algo.max_steps=6", "algo.save_steps=2")
SAMPLED = (
    *STEPS, "algo.epochs=null", "algo.num_generations=4", "algo.max_completion_tokens=24", "algo.prompts=12", "algo.batch_size=2",
    "data_mix=pubmedqa",
)  # fmt: skip
ONLINE = (*STEPS, "algo.batch_size=8", "algo.max_completion_tokens=24", "data_mix=gsm8k")
ALGOS = {
    "grpo": (*ONLINE, "algo.num_generations=4"),
    "sft": ("algo=sft", "data_mix=medical_o1_sft", "algo.max_steps=8", "algo.save_steps=3", "algo.max_tokens=512",
            "algo.batch_size=4"),
    "dpo": (*SAMPLED, "algo=dpo"),
    "pt": ("algo=pt", "data_mix=medicalgpt_pt", "data_mix.held_out=[medicalgpt_pt]", "algo.epochs=null", "algo.max_steps=8",
           "algo.save_steps=3", "algo.block_tokens=128", "algo.batch_size=4"),
    "rm": ("algo=rm", "data_mix=medicalgpt_preference", "algo.epochs=null", "algo.max_steps=8", "algo.save_steps=3",
           "algo.batch_size=4"),
    "dapo": (*ONLINE, "algo=dapo", "algo.num_generations=4", "algo.num_mini_batches=2"),
    "rloo": (*ONLINE, "algo=rloo", "algo.num_generations=4", "algo.num_mini_batches=1"),
    "ppo": (*ONLINE, "algo=ppo", "algo.max_steps=8", "algo.save_steps=4", "algo.num_iterations=2", "algo.num_mini_batches=2"),
    "kto": (*SAMPLED, "algo=kto", "algo.batch_size=4"),
    "orpo": (*SAMPLED, "algo=orpo"),
    "iterative_dpo": (*SAMPLED, "algo=iterative_dpo", "algo.rounds=2", "algo.max_steps=4", "algo.save_steps=1"),
    "rejection_sampling": (*SAMPLED, "algo=rejection_sampling"),
    "distillation": (*ONLINE, "algo=distillation", "algo.teacher.weights=embedded:tiny", "algo.batch_size=4"),
    "none": (
        "algo=none", "data_mix=gsm8k", "eval.samples=2", "eval.temperature=0.7", "eval.batch_tokens=2048",
        "eval.max_new_tokens=96", "source.test_rows=24",
    ),
}  # fmt: skip
TRAINED = [name for name in ALGOS if name != "none"]
STOPPED = ("grpo", "sft")
"""The algorithms that are stopped by a signal, too, which works the same for all of them."""
BRIEF = ("eval.limit=1", "eval.max_new_tokens=4")
"""Where the weights are compared."""


def start(algo, runs, *words):
    return killed.medrl(*COMMON, *ALGOS[algo], *words, f"runs={runs}", folder=runs)


def finish(algo, runs, *words):
    output = killed.finish(*COMMON, *ALGOS[algo], *words, f"runs={runs}", folder=runs)
    (folder,) = runs.glob("[!.]*")
    return folder, output


def wait_for_step(process, runs, step):
    """Until the log shows a step."""
    killed.wait_until(lambda: any(len(read_jsonl(log)) >= step for log in runs.glob("*/train/log.jsonl")), process)


def check_same(folder, reference):
    """Weights bit for bit, and every step logged once with the same loss and the same count of tokens."""
    assert (folder / "model" / "model.safetensors").read_bytes() == (reference / "model" / "model.safetensors").read_bytes()
    ours, theirs = (read_jsonl(place / "train" / "log.jsonl") for place in (folder, reference))
    said = [[(line["step"], line["loss"], line.get("num_tokens")) for line in lines] for lines in (ours, theirs)]
    assert said[0] == said[1]


@pytest.fixture(scope="module", params=TRAINED)
def reference(compose, request, tmp_path_factory):
    """An algorithm and the folder of its unbroken run, in this process: in another one sets have another order."""
    runs = tmp_path_factory.mktemp("unbroken")
    lifecycle.run(compose([*COMMON, *ALGOS[request.param], *BRIEF, f"runs={runs}"]))
    (folder,) = runs.glob("[!.]*")
    return request.param, folder


@pytest.mark.slow
def test_after_sigkill(reference, tmp_path):
    algo, unbroken = reference
    process = start(algo, tmp_path, *BRIEF)
    wait_for_step(process, tmp_path, 3)
    seed = random.randrange(10**6)
    print(f"seed of the moment: {seed}")
    time.sleep(random.Random(seed).random())  # any moment: in a step, in a checkpoint, between them
    killed.kill(process)
    folder, _ = finish(algo, tmp_path, *BRIEF)
    check_same(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("reference", STOPPED, indirect=True)
def test_after_sigterm_and_a_torn_checkpoint(reference, tmp_path):
    algo, unbroken = reference
    process = start(algo, tmp_path, *BRIEF)
    wait_for_step(process, tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "with a checkpoint written" in output and "Traceback" not in output
    (folder,) = tmp_path.glob("[!.]*")
    newest = max((folder / "train").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    weights = newest / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:1000])  # as a kill in the middle of writing leaves it
    folder, _ = finish(algo, tmp_path, *BRIEF)
    check_same(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["sft"], indirect=True)
def test_after_a_kill_between_the_last_checkpoint_and_the_model(reference, tmp_path):
    """The last steps are done again, and no more than those."""
    _, unbroken = reference
    shutil.copytree(unbroken, tmp_path / unbroken.name, ignore=shutil.ignore_patterns("model", "eval", "metrics.json"))
    folder, output = finish("sft", tmp_path, *BRIEF)
    assert "resume   from step 6" in output  # of 8
    check_same(folder, unbroken)


@pytest.mark.slow
def test_ctrl_c_during_evaluation(tmp_path):
    process = start("grpo", tmp_path)
    killed.wait_until(lambda: list(tmp_path.glob("*/model")), process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGINT, output
    assert "Run the same command again" in output and "Traceback" not in output
    folder, output = finish("grpo", tmp_path)
    assert "train:" not in output  # nothing is trained twice
    assert (folder / "metrics.json").exists()


# --- An evaluation that is killed in the middle of a task -------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Words:
    """A rendering into words."""

    def prompt(self, messages):
        return " ".join(message["content"] for message in messages).split()


class Stub(Transformers):
    """Generation whose batches come from a seeded generator in the place of a model, and break off after so many."""

    def __init__(self, budget, batches=None):
        self.rendering, self.context_tokens, self.budget = Words(), 2048, budget
        self.left, self.asked = batches, []

    def _batch(self, asked, sampling, tick):
        if self.left == len(self.asked):
            raise Killed
        self.asked.append([each.key for each in asked])
        shape = "<reasoning>\n{0} 片\n</reasoning>\n<answer>\n{0}\n</answer>\n"
        drawn = [random.Random(f"{sampling.seed}/{each.key}") for each in asked]
        return [Generated(shape.format(rng.randrange(100)), rng.randrange(9), rng.random() < 0.9) for rng in drawn]


@pytest.fixture
def ask(compose, monkeypatch, tmp_path):
    """Ask one task, of a model that breaks off after so many batches; what was asked, and the file of results."""

    def asked(folder="eval", batches=None, task="gsm8k", samples=3):
        words = (f"data_mix={task}", "source.test_rows=20", f"eval.samples={samples}", f"eval.temperature={float(samples > 1)}")
        tree = compose(["algo=none", *words])
        settings, stub = build.check(tree), Stub(1000, batches)
        monkeypatch.setattr("medrl.models.generation.Transformers", lambda *_: stub)
        (file,) = evaluate.result_files(settings, "base").values()
        if batches is None:
            evaluate.answer_tasks(settings, "base", None, None, tmp_path / folder)
            assert not further.missing(settings, "base", tmp_path / folder)
        else:
            with pytest.raises(Killed):
                evaluate.answer_tasks(settings, "base", None, None, tmp_path / folder)
            assert further.missing(settings, "base", tmp_path / folder)
        return stub.asked, tmp_path / folder / file

    return asked


def begun(path):
    return path.with_name(path.name + ".begun")


@pytest.mark.parametrize("samples", [1, 3])
def test_a_killed_evaluation_asks_only_what_is_left(ask, samples):
    whole, unbroken = ask("unbroken", samples=samples)
    lines = read_jsonl(unbroken)
    assert len(lines) == 20 * samples and len(whole) > 3
    assert [line["sample"] for line in lines] == [*range(samples)] * 20
    assert len({line["text"] for line in lines}) > 10  # samples of one question differ
    for batches in range(len(whole)):
        folder = f"killed after {batches}"
        first, path = ask(folder, batches, samples=samples)
        kept = read_jsonl(begun(path))
        assert first == whole[:batches] and not path.exists()
        for line in kept:
            grader = {"grader": evaluate.grader_digest()}
            assert line == {"position": line["position"], **grader, **lines[line["position"]]}
        rest, path = ask(folder, samples=samples)
        assert first + rest == whole  # nothing twice
        assert path.read_bytes() == unbroken.read_bytes() and not begun(path).exists()


def test_a_torn_evaluation_is_mended(ask):
    """Cut anywhere, in a character, too: whole lines are kept, and the others asked."""
    whole, unbroken = ask("unbroken")
    _, path = ask("killed", 4)
    written = begun(path).read_bytes()
    assert written.count("片".encode()) == written.count(b"\n")
    sizes = []
    for length in [*range(0, len(written), 211), len(written) - 1, written.rindex("片".encode()) + 1]:
        begun(path).write_bytes(written[:length])
        rest, path = ask("killed")
        assert path.read_bytes() == unbroken.read_bytes() and not begun(path).exists()
        kept = {key for batch in whole for key in batch} - {key for batch in rest for key in batch}
        assert sum(map(len, rest)) == 60 - len(kept)  # nothing twice
        sizes.append(len(kept))
        path.unlink()
    assert sizes[0] == 0 and sizes[-1] == sum(map(len, whole[:4])) - 1  # the last line was torn


def test_a_finished_evaluation_is_not_asked_again(ask):
    _, path = ask()
    before = path.stat().st_mtime_ns
    assert ask() == ([], path) and path.stat().st_mtime_ns == before


def test_a_damaged_line_of_a_begun_evaluation_is_named(ask):
    _, path = ask("eval", 3)
    text = begun(path).read_text().splitlines(keepends=True)
    begun(path).write_text("".join([text[0], text[1][7:], *text[2:]]))
    with pytest.raises(evaluate.UserError, match=r"\.begun:2 is damaged; remove the file"):
        ask("eval")


def test_a_judge_is_asked_once_for_each_answer(ask, monkeypatch):
    claims, judge = [], Lexical.judge
    monkeypatch.setattr(Lexical, "judge", lambda self, asked: claims.extend(asked) or judge(self, asked))
    _, unbroken = ask("unbroken", task="medical_o1_verifiable", samples=2)
    once = sorted(claims)
    claims.clear()
    ask("killed", 2, task="medical_o1_verifiable", samples=2)
    _, path = ask("killed", task="medical_o1_verifiable", samples=2)
    assert sorted(claims) == once and path.read_bytes() == unbroken.read_bytes()


@pytest.mark.slow
def test_after_sigkill_in_the_middle_of_an_evaluation(tmp_path):
    for name in ("unbroken", "killed"):
        (tmp_path / name).mkdir()
    unbroken, runs = finish("none", tmp_path / "unbroken")[0], tmp_path / "killed"
    process = start("none", runs)
    killed.wait_until(lambda: any(path.stat().st_size for path in runs.glob("*/eval/*.begun")), process)
    killed.kill(process)
    (path,) = runs.glob("*/eval/*.begun")
    kept = len(read_jsonl(path))
    assert 0 < kept < 48
    with path.open("ab") as file:
        file.write(json.dumps({"position": 47, "text": "片"}, ensure_ascii=False).encode()[:25])  # torn in a character
    folder, _ = finish("none", runs)
    ours, theirs = (sorted((place / "eval").iterdir()) for place in (folder, unbroken))
    assert [file.name for file in ours] == [file.name for file in theirs] and len(ours) == 1
    assert ours[0].read_bytes() == theirs[0].read_bytes() and len(read_jsonl(ours[0])) == 48
    metrics, whole = (json.loads((place / "metrics.json").read_text())["tasks"] for place in (folder, unbroken))
    assert metrics == whole and metrics["gsm8k"]["samples"] == 2
