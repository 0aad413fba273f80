"""Runs that start from one another, one by one and as a chain."""

import json
import os
import random
import sys
import time

import killed
import pytest
import yaml

from medrl.algos.grpo import GRPO
from medrl.config import build, frozen, identity, schema
from medrl.config import compose as composing
from medrl.errors import ConfigError, Interrupted, UserError
from medrl.jobs import chain
from medrl.jobs.job import Job
from medrl.models import from_run

SMALL = ("hardware=cpu", "source.train_rows=120", "source.test_rows=8", "data_mix.rows=64", "eval.max_new_tokens=32")
STAGES = {
    # Two steps a stage: what each learns is seen in experiments/, here is seen that they follow one another.
    "pt": ("pt.algo.max_steps=2", "pt.algo.epochs=null", "pt.algo.batch_size=4"),
    "sft": ("sft.algo.max_steps=2", "sft.algo.batch_size=4"),
    "rm": ("rm.algo.max_steps=2", "rm.algo.epochs=null", "rm.algo.batch_size=4"),
    "rl": ("rl.algo.max_steps=2", "rl.algo.batch_size=8", "rl.algo.max_completion_tokens=24"),
}


@pytest.fixture(autouse=True)
def nothing_planned():
    yield
    from_run.planned.clear()
    identity.planned.clear()


def refused(listed):
    with pytest.raises(ConfigError) as error:
        chain.parsed(yaml.safe_load(listed), "mine")
    return [(problem.key, problem.message) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("listed", "key", "said"),
    [
        ("[]", "mine", "a chain lists stages by name"),
        ("sft: [algo=sft]", "mine.sft", "should be a mapping"),
        ("sft: {word: [algo=sft]}", "mine.sft.word", "did you mean words?"),
        ("sft: {words: algo=sft}", "mine.sft.words", "should be a valid"),
        ("sft: {words: [algo=sft], init_from: pt}", "mine.sft.init_from", "names no stage; there is: sft"),
        ("sft: {words: []}\nrl: {words: [], reward_model_from: sfd}", "mine.rl.reward_model_from", "did you mean sft?"),
        ("model: {words: []}", "mine.model", "cannot have the name of a section"),
    ],
)
def test_a_file_that_is_no_chain_is_refused(listed, key, said):
    assert any(where == key and said in message for where, message in refused(listed)), refused(listed)


class EndsAfterASignal:
    """A stage that is at its end when its chain is asked to stop."""

    command = "a stage"

    def __init__(self, folder):
        self.folder = folder

    def finished(self):
        return False

    def job(self):
        said = f"import os, signal; signal.signal(15, signal.SIG_IGN); os.mkdir({str(self.folder)!r}); os.kill({os.getpid()}, 15)"
        return Job([sys.executable, "-c", said])


def test_a_chain_that_is_asked_to_stop_at_the_end_of_a_stage_starts_no_other(tmp_path):
    stages = {name: EndsAfterASignal(tmp_path / name) for name in ("first", "second")}
    with pytest.raises(Interrupted, match=r"Stopped in stage first\. Run the same command again to go on\."):
        chain.Chain("mine", (), stages).run()
    assert (tmp_path / "first").is_dir() and not (tmp_path / "second").exists()


def test_a_circle_is_named():
    circle = {"a": {"words": [], "init_from": "c"}, "b": {"words": [], "init_from": "a"}, "c": {"words": [], "init_from": "b"}}
    with pytest.raises(UserError, match=r"The chain mine goes round in a circle: . -> . -> . -> .;"):
        chain.order("mine", chain.parsed(circle, "mine"))


def test_an_unknown_chain_names_the_nearest():
    with pytest.raises(UserError, match="There is no chain 'medicalgtp'; did you mean medicalgpt"):
        chain.resolve_stages("medicalgtp", [])


def test_the_four_stages_start_from_one_another(tmp_path):
    stages = chain.resolve_stages("medicalgpt", [*SMALL, f"runs={tmp_path}", "rl.algo=grpo"])
    assert list(stages) == ["pt", "sft", "rm", "rl"]
    assert all(stage.folder.parent == tmp_path for stage in stages.values())
    for name, before in (("sft", "pt"), ("rm", "sft"), ("rl", "sft")):
        model = stages[name].tree["model"]
        assert model["run"] == str(stages[before].folder)
        assert stages[before].folder.name.endswith(stages[name].run.model.identity()["run"])
    rewards = stages["rl"].tree["reward_set"]["rewards"]
    assert rewards["reward_model"]["weights"] == str(stages["rm"].folder / "model")
    assert stages["rl"].tree["algo"]["_target_"].endswith(GRPO.__name__)  # an override of one stage
    assert stages["sft"].tree["tuned"] == composing.tree(["algo=sft", *SMALL])["tuned"]  # of the model that the chain began with


def test_mistakes_of_a_stage_carry_its_name(tmp_path):
    with pytest.raises(ConfigError) as error:
        chain.resolve_stages("medicalgpt", [*SMALL, f"runs={tmp_path}", "sft.algo.learning_rat=1"])
    (problem,) = error.value.problems
    assert problem.key == "sft: algo.learning_rat" and "did you mean learning_rate?" in problem.message


def test_the_id_is_of_what_is_started_from_and_not_of_where_it_lies(compose, tmp_path):
    ids = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        before = compose(["algo=sft", f"seed={seed}"])
        from_run.planned[tmp_path / name] = before
        identity.planned[(tmp_path / name).resolve()] = {"run_id": schema.run_id(build.unchecked(before))}
        tree = composing.tree(["model=from_run", f"model.run={tmp_path / name}", "hardware=cpu"])
        ids.append(schema.run_id(build.unchecked(tree)))
    assert ids[0] == ids[1] != ids[2]


@pytest.fixture
def problems(mistakes):
    """What is said of a model that is taken from a run."""
    return lambda *words: "; ".join(f"{problem.key} {problem.message}" for problem in mistakes("model=from_run", *words).problems)


@pytest.mark.slow
def test_what_one_cannot_start_from_is_said(problems, compose, tmp_path):
    assert problems() == "model.run model=from_run needs model.run=FOLDER, the folder of a finished run."
    assert problems("model.run=none") == "model.run none is no run folder: there is no such folder."
    trained = compose(["algo=sft", f"runs={tmp_path}"])
    for name, tree, said in (
        ("begun", trained, "is unfinished; run its command again until it ends with a table"),
        ("untrained", compose(["algo=none"]), "has trained nothing; name its model itself"),
        ("judge", compose(["algo=rm", "data_mix=medicalgpt_preference"]), "has trained a reward model"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        frozen.freeze(tree, folder)
        assert said in problems(f"model.run={folder}") and str(folder) in problems(f"model.run={folder}")
    (tmp_path / "begun" / "metrics.json").write_text("{}")
    assert "is finished and has lost its model/" in problems(f"model.run={tmp_path / 'begun'}")
    (tmp_path / "begun" / "model").mkdir()
    assert "there are not two; write merged" in problems(f"model.run={tmp_path / 'begun'}", "model.adapter=stacked")


def test_two_adapters_are_written_as_one(tmp_path):
    """The sum of both, whatever their ranks, scales and layers."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    def base():
        torch.manual_seed(0)
        shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        return Qwen2ForCausalLM(Qwen2Config(**shape, num_key_value_heads=2)).eval()

    def adapted(model, rank, alpha, modules, seed, folder, rslora=False):
        torch.manual_seed(seed)
        made = get_peft_model(
            model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, init_lora_weights=False, use_rslora=rslora)
        )
        made.save_pretrained(folder)
        return made.merge_and_unload()

    below, above = tmp_path / "below", tmp_path / "above"
    both = adapted(base(), 4, 8, ["q_proj", "down_proj"], 1, below, rslora=True)
    both = adapted(both, 2, 3, ["q_proj", "v_proj"], 2, above)
    from_run.stack(below, above)
    stacked = PeftModel.from_pretrained(base(), str(above)).eval()
    tokens = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        ours, theirs, alone = stacked(tokens).logits, both(tokens).logits, base()(tokens).logits
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, alone, atol=1e-2)
    assert json.loads((above / "adapter_config.json").read_text())["r"] == 6


@pytest.mark.slow
def test_an_adapter_is_started_from_merged_or_stacked(compose, tmp_path):
    """Each way, the model before training is the first run's model after it, and the result loads with peft alone."""
    from medrl import lifecycle

    lora = (
        "model.lora={_target_:medrl.models.lora.Lora,rank:4,alpha:8,dropout:0.0,modules:[q_proj,v_proj],rslora:false,dora:false}"
    )
    words = ["algo=sft", "data_mix=pubmedqa", "algo.max_steps=3", "algo.batch_size=8", "algo.learning_rate=5e-3", *SMALL]
    first = lifecycle.run(compose([*words, lora, f"runs={tmp_path / 'first'}"]))
    (folder,) = (tmp_path / "first").glob("[!.]*")
    for adapter in ("merged", "stacked"):
        start = ["model=from_run", f"model.run={folder}", f"model.adapter={adapter}", "seed=1"]
        again = lifecycle.run(compose([*words, *start, f"runs={tmp_path / adapter}"]))
        ours, theirs = again["tasks"]["pubmedqa"]["base"], first["tasks"]["pubmedqa"]
        assert ours["accuracy"] == theirs["accuracy"] and ours["mean_tokens"] == theirs["mean_tokens"]
        (made,) = (tmp_path / adapter).glob("[!.]*")
        written = json.loads((made / "model" / "adapter_config.json").read_text())
        assert written["target_modules"] == sorted(written["target_modules"])  # peft's order differs from process to process
        assert written["r"] == (4 if adapter == "merged" else 8)
        base = written["base_model_name_or_path"]
        assert base == str(folder / "merged") if adapter == "merged" else base.endswith("tiny")
    assert (folder / "merged" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_chain_for_each_seed_and_with_m_for_each_combination(tmp_path):
    words = ["chain=dxbench", *SMALL, "rft.algo.prompts=64", f"runs={tmp_path}"]
    chains = chain.resolve_all([*words, "seed=0,1"], several=False)
    assert [each.stages["rft"].tree["seed"] for each in chains] == [0, 1]
    assert all(each.stages["rft"].tree["model"]["run"] == str(each.stages["sft"].folder) for each in chains)
    grid = [*words, "seed=0,1", "sft.algo.learning_rate=1e-3,1e-4"]
    both = chain.resolve_all(grid, several=True)
    assert len(both) == 4
    # The seeds of a chain are seeds of each of its stages; another value of an earlier stage is another recipe.
    for stage in ("sft", "rft"):
        runs = [each.stages[stage].run for each in (*chains, *both)]
        assert len({schema.family_id(run) for run in runs[:2]}) == 1 and len({schema.run_id(run) for run in runs[:2]}) == 2
        assert len({schema.arms_id(run) for run in runs}) == 3  # the algorithm's own learning rate, 1e-3, 1e-4
    with pytest.raises(ConfigError, match="learning_rate  has several values; add -m to run a chain for each"):
        chain.resolve_all(grid, several=False)
    with pytest.raises(ConfigError, match=r"sft: algo.batch_size .*\(with seed=0 sft.algo.batch_size=0\)"):
        chain.resolve_all([*words, "seed=0,1", "sft.algo.batch_size=8,0"], several=True)
    with pytest.raises(ConfigError, match="would do the same runs twice"):
        chain.resolve_all([*words, "seed=0,0"], several=False)


@pytest.mark.slow
def test_every_stage_is_shown_and_planned_before_the_first_has_begun(tmp_path, capsys):
    words = ["chain=medicalgpt", *SMALL, *(word for stage in STAGES.values() for word in stage), f"runs={tmp_path}"]
    assert chain.main(words, show="configurations") == 0
    shown = list(yaml.safe_load_all(capsys.readouterr().out.replace("# chain", "---\n# chain")))
    assert [each["name"] for each in shown if each] == [f"medicalgpt-{stage}" for stage in ("pt", "sft", "rm", "rl")]
    assert chain.main([*words, "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert said.count("memory ") == 4 and "chain medicalgpt, stage rl: python -m medrl" in said
    assert chain.main(words, show="file") == 0 and "reward_model_from: rm" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_chain_that_is_killed_goes_on(tmp_path):
    """MedicalGPT's four stages on the twins, killed at any moment; then once more, which does nothing."""
    words = ["chain=medicalgpt", *SMALL, *(word for stage in STAGES.values() for word in stage), f"runs={tmp_path}"]
    process = killed.medrl(*words, folder=tmp_path)
    killed.wait_until(lambda: list(tmp_path.glob("medicalgpt-pt-*/metrics.json")), process)
    seed = random.randrange(10**6)
    print(f"seed of the moment: {seed}")
    time.sleep(10 * random.Random(seed).random())  # in one of the later stages, or between two
    killed.kill(process)
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")}
    output = killed.finish(*words, folder=tmp_path)
    assert finished and all(path.stat().st_mtime_ns == when for path, when in finished.items())  # finished stages are free
    assert sorted(path.parent.name.rsplit("-", 1)[0] for path in tmp_path.glob("*/metrics.json")) == [
        "medicalgpt-pt", "medicalgpt-rl", "medicalgpt-rm", "medicalgpt-sft",
    ]  # fmt: skip
    table = output[output.rindex("chain medicalgpt") :]
    for part in ("medicalgpt_pt", "perplexity", "pair accuracy", "(in training)", "synthetic twins"):
        assert part in table
    stored = json.loads(next(tmp_path.glob("chain-medicalgpt-*.json")).read_text())
    assert list(stored["chain"]["stages"]) == ["pt", "sft", "rm", "rl"] and str(tmp_path) not in json.dumps(stored)
    again = killed.finish(*words, folder=tmp_path)
    assert again.count(": finished") == 4 and "train:" not in again
