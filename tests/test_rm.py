"""Reward models: pairs that teach by what they say, a short run that learns them, and weights that anything loads."""

from pathlib import Path

import pytest

from medrl import lifecycle
from medrl.config import build, schema
from medrl.errors import ConfigError
from medrl.evaluation import preferences
from medrl.files import read_jsonl
from medrl.rewards.base import Completion
from medrl.rewards.reward_model import RewardModel

SMALL = ("algo=rm", "data_mix=medicalgpt_preference", "source.train_rows=400", "source.test_rows=60", "data_mix.rows=160")
LORA = "model.lora={_target_:medrl.models.lora.Lora,rank:8,alpha:16,dropout:0.0,modules:[q_proj,v_proj],rslora:false,dora:false}"


def test_only_pairs_are_asked_of_a_reward_model(compose):
    from medrl.evaluation import evaluate

    tree = compose(SMALL)
    settings = build.check(tree)
    assert settings.data_mix.held_out == ("medicalgpt_preference", "pubmedqa")
    assert list(evaluate.result_files(settings, "base")) == ["medicalgpt_preference"]
    policy = build.check(compose(["algo=dpo", "data_mix=medicalgpt_preference"]))
    assert [evaluate.protocol(policy, name) for name in evaluate.evaluated_tasks(policy)] == ["likelihood", "generative"]


def test_without_pairs_held_out_nothing_can_be_asked(compose):
    with pytest.raises(ConfigError, match=r"names no task of preference pairs.*add medicalgpt_preference"):
        build.check(compose([*SMALL, "data_mix.held_out=[pubmedqa]"]))


def test_quantised_weights_cannot_be_merged(compose):
    with pytest.raises(ConfigError, match=r"nf4 cannot hold the merged weights that rm writes; write model\.quantization=null"):
        build.check(compose([*SMALL, "model=qwen2_5_3b_instruct"]))


def test_the_longer_answer_is_no_better(compose):
    settings = build.check(compose(["algo=rm", "data_mix=medicalgpt_preference"]))
    task = settings.data_mix.tasks["medicalgpt_preference"]
    examples = list(task.examples(settings.source, "train"))
    found = preferences.references(examples)
    assert len(examples) == 3000
    assert all(0.3 < found[name]["accuracy"] < 0.5 for name in ("longer_answer", "shorter_answer"))  # equal lengths are wrong


def test_a_published_split_is_parted(compose):
    task = build.check(compose(SMALL)).data_mix.tasks["medicalgpt_preference"]
    train, test = task.location("train"), task.location("test")
    rows = [{"question": f"第{number}个问题？", "response_chosen": "a", "response_rejected": "b"} for number in range(1000)]
    assert all(train.keep(row) != test.keep(row) for row in rows) and 150 <= sum(map(test.keep, rows)) <= 250
    assert test.keep(rows[0]) == test.keep({**rows[0], "response_chosen": "c"})  # one question, one part
    assert task.held_out_part == "preference_medical/train, held-out part"


@pytest.mark.parametrize("model", ["tiny", "tiny_scratch"])
def test_the_head_before_training_is_the_seeds(compose, model):
    import torch

    def head(seed):
        settings = build.check(compose([*SMALL, f"model={model}", f"seed={seed}"]))
        tokenizer = settings.model.tokenizer(lambda: ["a text", "and another"])
        classifier = settings.model.classifier(tokenizer, settings.hardware, settings.seed)
        assert classifier.config.num_labels == 1 and classifier.config.pad_token_id == tokenizer.pad_token_id
        assert not any(weight.is_meta for weight in classifier.state_dict().values())
        return classifier.score.weight

    assert torch.equal(head(0), head(0)) and not torch.equal(head(0), head(1))


def scores_of(folder: Path, lines):
    """The same pairs through the reward that reads reward models."""

    class Row:
        def __init__(self, messages):
            self.messages = messages

    reward = RewardModel(
        weight=1.0, weights=str(folder), revision=None, sigmoid=False, max_tokens=2048, batch_size=16, any_tokenizer=False
    )
    asked = [Completion(line[kind], Row(line["prompt"]), True, 1) for line in lines for kind in ("chosen", "rejected")]
    return reward.score_all(asked)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_reward_model_learns_and_is_a_reward(compose, tmp_path, capsys, lora):
    adapter = [LORA, "algo.learning_rate=1e-2", "algo.epochs=2"] if lora else []
    # Another seed than 0, whose random head happens to rank seven pairs in ten.
    tree = compose([*SMALL, *adapter, "seed=1", f"runs={tmp_path}"])
    metrics, printed = lifecycle.run(tree), capsys.readouterr().out
    folder = schema.run_dir(build.unchecked(tree))
    task = metrics["tasks"]["medicalgpt_preference"]
    assert set(metrics["tasks"]) == {"medicalgpt_preference"} and metrics["perplexity"] == {}
    assert (task["protocol"], task["scorer"], task["n"]) == ("pairwise", "pairs by score", 60)
    assert task["change"] is None  # a random head is any classifier, and nothing to be tested against
    for reference in task["against"].values():
        assert reference["difference"] > 0 and reference["p_value"] < 0.05
    assert task["accuracy"] > max(reference["accuracy"] for reference in task["reference"].values())
    assert "Against references" in printed and "longer answer +" in printed
    (after,) = (folder / "eval").glob("medicalgpt_preference-v2-trained-*.jsonl")
    lines = read_jsonl(after)[:20]
    assert not list((folder / "model").glob("adapter*"))  # merged
    expected = [line[f"score_{kind}"] for line in lines for kind in ("chosen", "rejected")]
    assert scores_of(folder / "model", lines) == pytest.approx(expected, abs=1e-4)
    assert "not against a random head" in (folder / "report.html").read_text()
