"""On-policy distillation: what the teacher is asked, and which teachers are refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_pairs import SMALL, job_of

from medrl import lifecycle
from medrl.config import schema
from medrl.config.build import build, check
from medrl.errors import ConfigError, UserError
from medrl.files import read_jsonl
from medrl.models.base import EMBEDDED
from medrl.planning import plan
from medrl.planning.memory import measure

SHORT = ("algo=distillation", "algo.max_steps=2", "algo.batch_size=4", "algo.save_steps=2", "algo.warmup_ratio=0")


@pytest.fixture
def teacher(tmp_path):
    """The embedded model in a folder, with what is changed in it."""

    def made(config=None, scale=1.0):
        folder = shutil.copytree(EMBEDDED / "tiny", tmp_path / "teacher")
        told = json.loads((folder / "config.json").read_text()) | (config or {})
        (folder / "config.json").write_text(json.dumps(told))
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] *= scale
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return f"algo.teacher.weights={folder}"

    return made


def trained(compose, folder, *words):
    job = job_of(compose([*SMALL, *SHORT, *words]), folder / "train")
    before = {name: weight.clone() for name, weight in job.policy.state_dict().items()}
    job.run.algo.train(job, folder / "model")
    after = load_file(folder / "model" / "model.safetensors")
    return read_jsonl(job.folder / "log.jsonl"), max(float((after[name] - before[name]).abs().max()) for name in after)


def test_a_teacher_that_says_the_same_teaches_nothing_and_another_one_does(compose, tmp_path, teacher):
    log, moved = trained(compose, tmp_path / "same", "algo.teacher.weights=embedded:tiny", "algo.learning_rate=1e-5")
    assert all(abs(line["loss"]) < 1e-6 for line in log) and moved < 1e-4
    log, moved = trained(compose, tmp_path / "other", teacher(scale=0.5), "algo.learning_rate=1e-3")
    assert all(line["loss"] > 1e-3 for line in log) and moved > 1e-4
    assert len([*(tmp_path / "other" / "train" / "completions").glob("*.parquet")]) == 2


def test_the_loss_is_the_reverse_divergence_of_what_was_written(compose, tmp_path, teacher):
    """The first step's, computed again from the text that the log of completions holds."""
    import pandas
    from transformers import AutoModelForCausalLM

    word = teacher(scale=0.5)
    log, _ = trained(compose, tmp_path, word, "algo.max_steps=1")
    written = pandas.read_parquet(next((tmp_path / "train" / "completions").glob("*.parquet")))
    job = job_of(compose([*SMALL, *SHORT, word]), tmp_path / "again")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "teacher")
    asked = [job.rendering.prompt(row.messages) for row in job.rows]
    ids_of = {job.tokenizer.decode(ids, skip_special_tokens=True): ids for ids in asked}
    sums, tokens = 0.0, 0
    for prompt, text in zip(written["prompt"], written["completion"], strict=True):
        ids = ids_of[prompt]
        answer = [*job.tokenizer(text, add_special_tokens=False).input_ids, job.tokenizer.eos_token_id]
        with torch.no_grad():
            given = torch.tensor([[*ids, *answer]])
            ours, teachers = (
                model(given).logits[0, len(ids) - 1 : -1].double().log_softmax(-1) for model in (job.policy, theirs)
            )
        sums += float((ours.exp() * (ours - teachers)).sum())
        tokens += len(answer)
    assert log[0]["loss"] == pytest.approx(sums / tokens, rel=1e-3)


def test_a_report_shows_what_was_written(compose, tmp_path):
    words = (
        "algo.teacher.weights=embedded:tiny",
        "data_mix.held_out=[pubmedqa]",
        "eval.limit=2",
        f"runs={tmp_path}",
        "hardware=cpu",
    )
    tree = compose([*SMALL, *SHORT, *words])
    lifecycle.run(tree)
    page = (schema.run_dir(check(tree)) / "report.html").read_text()
    assert '"name":"Training"' in page.replace(": ", ":") and "This is clear." in page


def test_another_vocabulary_is_refused_before_weights_load(compose, teacher):
    tree = compose([*SMALL, *SHORT, teacher(), "model=tiny_scratch"])
    settings = check(tree)
    tokenizer = settings.model.tokenizer(lambda: iter(["words of another text"] * 50))
    with pytest.raises(UserError, match="another vocabulary than the model"):
        settings.algo.check_rows([], tokenizer)


def test_a_table_of_another_size_is_refused(compose, tmp_path, teacher):
    job = job_of(compose([*SMALL, *SHORT, teacher({"vocab_size": 1600})]), tmp_path / "train")
    with pytest.raises(UserError, match="scores 1600 tokens and the model 1536"):
        job.run.algo.train(job, tmp_path / "model")


def test_a_teacher_has_to_be_named(compose):
    with pytest.raises(ConfigError, match=r"algo\.teacher\.weights  names no teacher"):
        check(compose(["algo=distillation"]))


def test_the_teacher_counts_in_the_id_the_plan_and_the_record(compose, teacher, tmp_path):
    def id_of(*words):
        return schema.run_id(check(compose([*SHORT, *words])))

    word = teacher(scale=0.5)
    assert id_of(word) != id_of("algo.teacher.weights=embedded:tiny")
    shutil.copytree(tmp_path / "teacher", tmp_path / "moved")
    assert id_of(word) == id_of(f"algo.teacher.weights={tmp_path / 'moved'}")
    run = check(compose([*SHORT, word]))
    assert plan._memory(run, run.algo, run, measure(run.model), 100)["parts"]["copies"] == 4 * 1_837_120  # the embedded model's
    assert [model.weights for model in build(compose([*SHORT, word])["algo"]).others] == [str(tmp_path / "teacher")]
