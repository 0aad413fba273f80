"""A finished command prints its table only while its numbers are still what they were made of."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from medrl import lifecycle, verify
from medrl.config import build, schema
from medrl.errors import UserError
from medrl.evaluation import evaluate
from medrl.files import read_jsonl, write_jsonl
from medrl.models.base import EMBEDDED
from medrl.tracking import run_folder
from medrl.training import checkpoints

WORDS = ("algo=none", "data_mix=gsm8k", "hardware=cpu", "eval.limit=6", "eval.max_new_tokens=48", "source.train_rows=200")


def folder_of(tree):
    return schema.run_dir(build.unchecked(tree))


@pytest.fixture(scope="module")
def finished(finished_run):
    return finished_run(*WORDS)[1]


@pytest.fixture
def again(compose, finished, tmp_path):
    """A copy of the finished run, and its configuration."""
    shutil.copytree(finished, tmp_path / finished.name)
    tree = compose([*WORDS, f"runs={tmp_path}"])
    assert folder_of(tree) == tmp_path / finished.name
    return tree, tmp_path / finished.name


def test_what_is_as_it_was_is_printed(again, capsys):
    tree, folder = again
    before = (folder / "metrics.json").read_bytes()
    (half := folder / "provenance.json.partial").write_text("{")  # of a kill after the metrics were written
    assert lifecycle.run(tree) == json.loads(before)
    assert (folder / "metrics.json").read_bytes() == before and "always" in capsys.readouterr().out and not half.exists()


def test_a_disk_that_is_read_only_is_enough_for_what_is_finished(again, capsys, monkeypatch):
    tree, folder = again
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    opened = Path.open

    def read_only(path, mode="r", *more, **options):
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", read_only)
    assert lifecycle.run(tree)["tasks"] and "always" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"\.lock cannot be written .*set runs=FOLDER"):
        lifecycle.run(tree)


@pytest.mark.parametrize(
    "damage", [lambda text: "{}", lambda text: "null", lambda text: text[:99], lambda text: text.replace("6", "7", 1)]
)
def test_metrics_that_were_changed_are_made_again(again, capsys, monkeypatch, damage):
    tree, folder = again
    whole = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(damage((folder / "metrics.json").read_text()))
    monkeypatch.setattr(evaluate, "answer_tasks", None)  # nothing is asked
    assert lifecycle.run(tree)["tasks"] == whole["tasks"]
    assert "is not what was written; it is made again of the answers" in capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["tasks"] == whole["tasks"]


def test_a_stage_is_as_long_as_it_took_whatever_the_clock_says(tmp_path, monkeypatch):
    now = [1.8e9]
    monkeypatch.setattr(run_folder.time, "time", lambda: now[0])
    monkeypatch.setattr(run_folder, "_now", lambda: str(now[0]))
    with run_folder.stage(tmp_path, "train"):
        now[0] -= 1e8
    (stage,) = run_folder.stages(tmp_path)
    assert stage["end"] < stage["begin"] and 0 <= stage["seconds"] < 60


def test_a_checkpoint_that_does_not_load_gives_way_to_the_one_before(compose, tmp_path, monkeypatch, capsys):
    settings = build.check(compose(["algo=sft", "data_mix=medical_o1_sft", "hardware=cpu"]))
    for step in (4, 8):
        path = tmp_path / "train" / f"checkpoint-{step}"
        path.mkdir(parents=True)
        (path / "trainer_state.json").write_text(f'{{"global_step": {step}, "max_steps": 9}}')
        checkpoints.mark_complete(path)
    tried = []

    def train(settings, folder, stop, unloaded):
        tried.append(checkpoints.newest(folder / "train", unloaded).name)
        if broken(tried[-1]):
            raise checkpoints.NotLoaded(folder / "train" / tried[-1], RuntimeError("no\nsuch tensor"))

    monkeypatch.setattr(lifecycle, "train", train)
    broken = "checkpoint-8".__eq__
    lifecycle._train_here_or_in_processes(settings, tmp_path, None)
    assert tried == ["checkpoint-8", "checkpoint-4"] and (tmp_path / "train" / "checkpoint-8").exists()
    assert "checkpoint-8 does not load (RuntimeError: no such tensor); the one before is taken" in capsys.readouterr().out
    broken = bool
    with pytest.raises(UserError, match=r"checkpoint-4 does not load \(RuntimeError: no such tensor\)\. Mend that, or remove it"):
        lifecycle._train_here_or_in_processes(settings, tmp_path, None)


def test_a_log_that_was_lost_after_training_is_brought_back_or_missed(tmp_path):
    log, copy = tmp_path / "train" / "log.jsonl", tmp_path / "train" / "checkpoint-9" / "log.jsonl"
    copy.parent.mkdir(parents=True)
    with run_folder.stage(tmp_path, "train"):
        for path in (log, copy):
            write_jsonl(path, [{"step": 1, "seconds": 1.0}])
        run_folder.note_file(tmp_path, log)
    for damage in (log.unlink, lambda: log.write_text("")):
        damage()
        lifecycle._restore_log(tmp_path)
        assert log.read_bytes() == copy.read_bytes()
    copy.unlink()
    log.unlink()
    with pytest.raises(UserError, match=r"log\.jsonl is not what training wrote, and no checkpoint has it"):
        lifecycle._restore_log(tmp_path)


def test_a_file_that_the_model_lacks_is_no_finished_run(tmp_path):
    with run_folder.stage(tmp_path, "train"):
        for name in ("model/config.json", "eval/a.jsonl"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text("{}")
            run_folder.note_file(tmp_path, tmp_path / name)
    assert run_folder.edited(tmp_path) == []
    (tmp_path / "eval/a.jsonl").unlink()  # is asked again
    (tmp_path / "model/config.json").unlink()
    assert run_folder.edited(tmp_path) == ["model/config.json"]


@pytest.mark.parametrize("name", ["provenance.json", "plan.json", "contaminated.jsonl", "judge.jsonl"])
def test_a_damaged_file_of_a_run_is_told_before_anything_is_done(again, monkeypatch, name):
    tree, folder = again
    (folder / "metrics.json").unlink()
    (folder / name).write_text('{"commit"\n')
    monkeypatch.setattr(lifecycle, "evaluate_models", None)
    with pytest.raises(UserError, match=rf"{name}(:1)? is damaged; (bring|remove)"):
        lifecycle.run(tree)


@pytest.mark.parametrize("done", [True, False])
def test_results_without_their_origin_are_not_taken_for_new_ones(again, done):
    tree, folder = again
    whole = (folder / "metrics.json").read_bytes()
    (folder / "provenance.json").unlink()
    if not done:
        (folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"holds eval and no provenance.json, .*; bring it back, or start the run over"):
        lifecycle.run(tree)
    assert not done or (folder / "metrics.json").read_bytes() == whole


def cut_off(text):
    """Whole YAML, and not the whole configuration."""
    return text[: text.index("\ndata_mix:")] + "\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut_off, "is not what was written; bring it back, or start the run over with force=true"),
        (lambda text: text.replace("seed: 0", "seed: 1"), "is not what was written"),
        (
            lambda text: text.partition("\n")[2].partition("quantization")[0],
            "config.yaml is damaged|without model",
        ),  # an older one
        (lambda text: "seed: 0\n", "config.yaml is damaged|without model"),
    ],
)
def test_a_configuration_that_is_cut_off_is_none(again, compose, change, said):
    _, folder = again
    (folder / "config.yaml").write_text(change((folder / "config.yaml").read_text()))
    with pytest.raises(UserError, match=said):
        compose(["algo=none", "data_mix=gsm8k", "model=from_run", f"model.run={folder}", "hardware=cpu"])


def test_a_damaged_configuration_stops_no_run_beside_it(again, capsys):
    tree, folder = again
    beside = shutil.copytree(folder, folder.with_name(folder.name[:-8] + "00000000"))
    (beside / "config.yaml").write_text(cut_off((beside / "config.yaml").read_text()))
    shutil.rmtree(folder)
    assert lifecycle.run(tree)["tasks"]


def test_a_damaged_neighbour_stops_no_run(again):
    tree, folder = again
    metrics = json.loads((folder / "metrics.json").read_text())
    for at, text in enumerate(["{", "[]"]):
        (folder.parent / f"beside-{at}" / "train").mkdir(parents=True)
        (folder.parent / f"beside-{at}" / "metrics.json").write_text(text)
    changed = shutil.copytree(folder, folder.parent / "changed")
    (changed / "metrics.json").write_text(json.dumps({**metrics, "seed": None}))
    for key in lifecycle.NEIGHBOUR:
        beside = folder.parent / f"lacks-{key}"
        beside.mkdir()
        (beside / "metrics.json").write_text(json.dumps({name: value for name, value in metrics.items() if name != key}))
    (folder / "metrics.json").unlink()
    assert lifecycle.run(tree)["tasks"] == metrics["tasks"]


def test_an_edited_answer_is_refused_and_asked_again_once_it_is_removed(again, capsys):
    tree, folder = again
    metrics = (folder / "metrics.json").read_text()
    (path,) = (folder / "eval").glob("*.jsonl")
    kept = path.read_bytes()
    lines = read_jsonl(path)
    write_jsonl(path, [{**lines[0], "verdict": "right", "text": "1"}, *lines[1:]])
    with pytest.raises(UserError, match=rf"eval/{path.name} is not what its numbers were made of\. Bring them back; or remove"):
        lifecycle.run(tree)
    assert "accuracy" not in capsys.readouterr().out
    path.unlink()
    assert lifecycle.run(tree)["tasks"] == json.loads(metrics)["tasks"] and path.read_bytes() == kept


def test_another_grader_grades_the_kept_texts_again(again, capsys, monkeypatch):
    tree, folder = again
    (path,) = (folder / "eval").glob("*.jsonl")
    texts = [line["text"] for line in read_jsonl(path)]
    task = type(build.unchecked(tree).data_mix.tasks["gsm8k"])
    generous = task.grade_all
    monkeypatch.setattr(
        task, "grade_all", lambda self, attempts: [each._replace(outcome="right") for each in generous(self, attempts)]
    )
    monkeypatch.setattr(evaluate, "grader_digest", lambda: "edited00")
    monkeypatch.setattr(evaluate, "answer_tasks", None)  # nothing is asked
    metrics = lifecycle.run(tree)
    said = capsys.readouterr().out
    assert "made by another grader" in said and "6 kept answers graded anew" in said
    assert metrics["tasks"]["gsm8k"]["accuracy"] == 1 and [line["text"] for line in read_jsonl(path)] == texts
    assert [each["stage"] for each in run_folder.stages(folder)] == ["evaluate", "grade"]
    lifecycle.run(tree)
    assert "another grader" not in capsys.readouterr().out


def test_a_question_in_other_words_is_asked_again(again):
    tree, folder = again
    (path,) = (folder / "eval").glob("*.jsonl")
    lines = read_jsonl(path)
    settings = build.unchecked(tree)
    edited = [{**lines[0], "prompt": [{"role": "user", "content": "Another question"}]}, *lines[1:]]
    assert sorted(evaluate.regraded(settings, "gsm8k", edited)) == [1, 2, 3, 4, 5]
    assert evaluate.regraded(settings, "gsm8k", lines) == dict(enumerate(lines))


def test_the_digest_sees_the_code(monkeypatch, tmp_path):
    fresh = evaluate.grader_digest.__wrapped__
    package = tmp_path / "medrl"
    for part in evaluate.GRADED_BY:
        (package / part).mkdir(parents=True)
    (package / "grading" / "answers.py").write_text("A = 1\n")
    monkeypatch.setattr(evaluate, "__file__", str(package / "evaluation" / "evaluate.py"))
    before = fresh()
    (package / "grading" / "answers.py").write_text("A = 2\n")
    assert fresh() != before


def own_rows(tmp_path, gold):
    rows = [{"question": f"Is {count} even?", "answer": gold} for count in range(6)]
    write_jsonl(tmp_path / "test.jsonl", rows)
    write_jsonl(tmp_path / "train.jsonl", rows)


def test_changed_golds_are_graded_as_they_are_now(compose, tmp_path, capsys):
    own_rows(tmp_path, "yes")
    mix = ("data_mix=rows", *(f"data_mix.tasks.rows.{split}={tmp_path}/{split}.jsonl" for split in ("train", "test")))
    words = ["algo=none", *mix, "hardware=cpu", "eval.max_new_tokens=8", f"runs={tmp_path / 'runs'}"]
    lifecycle.run(compose(words))
    capsys.readouterr()
    own_rows(tmp_path, "no")
    lifecycle.run(compose(words))
    said = capsys.readouterr().out
    assert "not the rows that were asked before" in said and "always no" in said and "always yes" not in said


def with_weights(compose, folder, *more):
    model = ("model=qwen2_5_0_5b_instruct", f"model.weights={folder}", "model.lora=null")
    return compose([*WORDS, *model, f"runs={folder.parent / 'runs'}", *more])


def test_other_weights_and_another_precision_make_another_run_and_say_so(compose, tmp_path, capsys):
    folder = tmp_path / "tiny"
    shutil.copytree(EMBEDDED / "tiny", folder)
    first = with_weights(compose, folder)
    lifecycle.run(first)
    halved = with_weights(compose, folder, "hardware.precision=bf16")
    capsys.readouterr()
    lifecycle.run(halved)
    assert "is the same but for precision fp32 there, bf16 here" in capsys.readouterr().out
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    lifecycle.run(first)
    assert "has this configuration and other weights or rows; nothing is taken from it" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").glob("[!.]*"))) == 3


def test_stages_are_appended(again, compose):
    _, folder = again
    before = json.loads((folder / "provenance.json").read_text())
    lifecycle.run(compose([*WORDS, "eval.limit=3", f"runs={folder.parent}"]))
    after = json.loads((folder / "provenance.json").read_text())
    assert after["stages"][0] == before["stages"][0] and len(after["stages"]) == 2
    assert after["command"] == before["command"] and after["run_id"] == before["run_id"]
    for each in after["stages"]:
        assert {"begin", "end", "commit", "dirty", "command", "packages", "gpus", "environment", "numerics"} <= set(each)
        assert each["end"] and each["numerics"]["threads"] > 0 and each["generation"]["repetition_penalty"] == 1.0
        assert ("patch" in each) == bool(each["dirty"])
    assert json.loads((folder / "metrics.json").read_text())["eval"]["generation"]["do_sample"] is False


def test_a_limit_is_a_sample(compose):
    whole, few, fewer = (
        [example.id for example in evaluate.held_out(build.unchecked(compose(["algo=none", "data_mix=gsm8k", *more])), "gsm8k")]
        for more in ([], ["eval.limit=40"], ["eval.limit=20"])
    )
    places = [whole.index(each) for each in few]
    assert len(few) == 40 and places == sorted(places) and places[-1] > len(whole) // 2 and set(fewer) < set(few)


def test_verify(again, capsys):
    _, folder = again
    assert verify.main([str(folder), "share=0.5", "seed=3"]) == 0
    said = capsys.readouterr().out
    assert "drawn with seed 3" in said and "Everything compared is the same." in said
    (path,) = (folder / "eval").glob("*.jsonl")
    lines = read_jsonl(path)
    write_jsonl(path, [{**line, "text": line["text"] + " "} for line in lines])
    assert verify.main([str(folder), "share=1"]) == 1
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gsm8k"))
    assert row.split() == ["gsm8k", "base", "CHANGED", "6", "0", "6", "6"]
    path.unlink()
    assert verify.main([str(folder), "share=0"]) == 1


@pytest.mark.parametrize("words", [["share=2"], ["share=x"], ["part=1"]])
def test_verify_says_what_it_cannot_take(finished, words, capsys):
    assert verify.main([str(finished), *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_test_split_is_counted(compose, tmp_path):
    """Of published rows: a twin is made, and there is no end of them."""
    from medrl.report import terminal

    run_folder.note_asked(tmp_path, {"task": "pubmedqa", "run": "a", "model": "base"})
    run_folder.note_asked(tmp_path, {"task": "pubmedqa", "run": "a", "model": "trained"})
    assert run_folder.times_asked(tmp_path) == {"pubmedqa": 2}
    tree = compose([*WORDS, f"runs={tmp_path}"])
    metrics = lifecycle.run(tree)
    assert metrics["asked"] == {} and run_folder.times_asked(tmp_path) == {"pubmedqa": 2}
    said = terminal.table({**metrics, "asked": {"pubmedqa": 2}}, tmp_path)
    assert "test splits asked in this runs folder: pubmedqa 2 times" in said
