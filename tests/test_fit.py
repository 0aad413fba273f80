"""What a card and a model decide together, and a plan that needs neither the card nor the hub."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from medrl import lifecycle
from medrl.config import build, frozen, json_schema, schema
from medrl.config import compose as composing
from medrl.config.options import group_options
from medrl.data.hf_hub import Unreachable
from medrl.errors import UserError
from medrl.files import read_json
from medrl.jobs import chain
from medrl.models import architecture
from medrl.planning import duration, fit, memory
from medrl.training import cards

PARAMETERS = {
    # As the hub counts them, from the weights themselves; a tied head counts once.
    "Qwen/Qwen2.5-0.5B": 494_032_768, "Qwen/Qwen2.5-1.5B": 1_543_714_304, "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512, "Qwen/Qwen3-0.6B": 596_049_920, "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096, "Qwen/Qwen3-8B": 8_190_735_360, "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000, "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "bigscience/bloomz-1b1": 1_065_314_304, "THUDM/glm-4-9b-chat-hf": 9_399_951_360,
}  # fmt: skip

DECIDED = [
    # Card, model, more -> micro-batch, checkpointing, vLLM's share where it generates.
    ("t4", "qwen2_5_0_5b_instruct", "", (4, False, 0.27)),
    ("p100", "qwen2_5_3b_instruct", "", (1, False, None)),
    ("t4", "qwen2_5_3b_instruct", "algo.max_completion_tokens=512", (1, False, 0.69)),
    ("t4", "qwen2_5_7b_instruct", "algo=sft", (4, True, None)),
    ("l4", "qwen2_5_0_5b_instruct", "", (6, False, 0.19)),
    ("l4", "qwen2_5_3b_instruct", "", (1, False, 0.51)),
    ("l4", "qwen2_5_7b_instruct", "algo=sft", (1, False, None)),
    ("a100", "qwen2_5_3b_instruct", "", (2, False, 0.28)),
    ("a100", "qwen2_5_7b_instruct", "", (6, True, 0.54)),
    ("h200", "qwen2_5_3b_instruct", "", (12, False, 0.08)),
    ("h200", "qwen2_5_3b_instruct", "algo=sft model.lora=null model.quantization=null", (4, False, None)),
    ("b200", "qwen2_5_7b_instruct", "", (8, False, 0.12)),
]

TOO_SMALL = [
    # Card, model, more -> what is advised.
    ("p100", "qwen2_5_7b_instruct", "", "algo.batch_size=6 makes it 12.1 GiB"),
    (
        "t4",
        "qwen2_5_7b_instruct",
        "",
        "hardware.rollout=transformers algo.optimizer=adamw_8bit algo.batch_size=6 together make it",
    ),
    ("l4", "qwen2_5_7b_instruct", "", "hardware.rollout=transformers makes it"),
    ("t4", "qwen2_5_1_5b", "algo=sft model.lora=null", "model/lora=all_linear makes it"),
    ("l4", "qwen2_5_1_5b", "algo=sft model.lora=null", "algo.optimizer=adamw_8bit makes it"),
    ("t4", "qwen2_5_7b", "algo=sft model.lora=null model.quantization=null", "algo.batch_size=1 together make it"),
    ("l4", "qwen2_5_3b_instruct", "hardware.micro_batch_size=48", "hardware.micro_batch_size=auto makes it"),
    ("t4", "glm_4_9b_chat", "algo=sft algo.max_tokens=2048 hardware.memory_gib=7", "take a smaller model or a card of 15 GiB"),
    ("t4", "qwen3_8b", "algo=sft model.context_tokens=40000 algo.max_tokens=40000 hardware.memory_gib=4", "no setting"),
]


@cache
def shape_of(hub_id):
    return memory.shape(architecture.known_skeleton(hub_id))


@pytest.fixture
def planned(compose, monkeypatch):
    """A run for a card that is not here, with the shape of its model and no question to the hub."""
    monkeypatch.setattr(fit, "measure", lambda model: shape_of(model.weights))

    def made(card, model, more=""):
        return build.check(compose([f"hardware={card}", f"model={model}", "dry_run=true", *more.split()]))

    return made


def test_the_shapes_that_are_kept_have_the_weights_that_are_published():
    assert {name: sum(shape_of(name).parameters) for name in PARAMETERS} == PARAMETERS


def test_the_shape_of_every_model_on_the_hub_is_kept():
    kept = yaml.safe_load(Path(architecture.__file__).with_name("configs.yaml").read_text(encoding="utf-8"))
    named = {str(json_schema.values("model", option).get("weights", "")) for option in group_options("model")}
    on_hub = {name for name in named if "/" in name}
    assert len(on_hub) > 15 and on_hub - set(kept) == {"baichuan-inc/Baichuan2-7B-Chat"}  # it comes with code of its own


@pytest.mark.parametrize(("card", "model", "more", "decided"), DECIDED)
def test_the_estimate_decides(planned, card, model, more, decided):
    run = planned(card, model, more)
    found = fit.fitted(run)
    hardware = found.run.hardware
    held = memory.estimate(found.run, run.algo, found.shape, run.algo.max_prompt_tokens(run))
    share = hardware.vllm_memory_share if "vllm" in held.parts else None
    assert (hardware.micro_batch_size, hardware.gradient_checkpointing, share) == decided
    assert held.peak <= fit.FULL * hardware.memory_gib * memory.GIB
    faster = found.said[0].partition("; micro-batch ")[2]
    if faster:  # the next faster split is said, and does not fit
        told = float(faster.split(" would take ")[1].split()[0])  # rounded to a tenth
        assert told + 0.05 > fit.FULL * hardware.memory_gib
    assert schema.run_id(found.run) == schema.run_id(run)
    assert fit.fitted(found.run).run == found.run and fit.fitted(found.run).said == []


def test_what_is_said_of_it(planned):
    run = planned("l4", "qwen2_5_3b_instruct")
    assert fit.fitted(run).said == [
        "micro-batch 1 without checkpointing: 1 x 2,048 tokens keep 9.2 GiB of activations, 13.8 GiB of 22 GiB in all; "
        "micro-batch 2 without checkpointing would take 21.4 GiB",
        "vLLM 51%: 11.2 GiB, of which 5.7 GiB are its 16-bit weights",
    ]
    assert fit.of_card(run) == "L4, 22 GiB, compute capability 8.9: bf16, which is fast there; rollouts by vllm"
    old = fit.of_card(planned("p100", "qwen2_5_3b_instruct", "algo=sft"))
    assert (
        "fp16, which is fast there; bf16 is from 8.0 on" in old
        and "a PyTorch that was built with CUDA 12" in old
        and "rollouts" not in old
    )
    asked = planned("t4", "qwen2_5_3b_instruct", "hardware.precision=bf16 hardware.memory_gib=8")
    assert fit.of_card(asked).startswith("T4, 8 GiB, compute capability 7.5: bf16, asked for; it is slow below 8.0")


def test_runs_that_share_a_gpu_are_each_fitted_to_their_part(planned):
    run = planned("h200", "qwen2_5_0_5b_instruct", "hardware.runs_per_gpu=6")
    assert run.hardware.memory_gib == int(10 * cards.known()["h200"].memory_gib / 6) / 10
    found = fit.fitted(run)
    held = memory.estimate(found.run, found.run.algo, found.shape, found.run.algo.max_prompt_tokens(found.run))
    alone = fit.fitted(planned("h200", "qwen2_5_0_5b_instruct")).run
    assert held.peak <= fit.FULL * run.hardware.memory_gib * memory.GIB
    assert found.run.hardware.micro_batch_size < alone.hardware.micro_batch_size and not found.run.hardware.sleeps
    assert "for each of 6 runs" in (fit.of_card(found.run) or "")
    assert planned("h200", "qwen2_5_0_5b_instruct", "hardware.runs_per_gpu=6 hardware.memory_gib=9").hardware.memory_gib == 9


def test_a_users_value_wins_and_the_others_are_fitted_to_it(planned):
    def of(*words):
        hardware = fit.fitted(planned("a100", "qwen2_5_3b_instruct", " ".join(words))).run.hardware
        return hardware.micro_batch_size, hardware.gradient_checkpointing, hardware.vllm_memory_share

    assert of() == (2, False, 0.28)
    assert of("hardware.gradient_checkpointing=true") == (24, True, 0.28)
    assert of("hardware.micro_batch_size=4") == (4, True, 0.28)
    assert of("hardware.micro_batch_size=4", "hardware.gradient_checkpointing=false") == (4, False, 0.2)  # with less cache
    assert of("hardware.vllm_memory_share=0.5") == (1, False, 0.5)
    assert of("hardware.memory_gib=80") == (6, False, 0.14)
    whole = "hardware.micro_batch_size=3", "hardware.gradient_checkpointing=true", "hardware.vllm_memory_share=0.4"
    assert of(*whole) == (3, True, 0.4)


def test_where_memory_is_not_known_nothing_is_risked(planned):
    found = fit.fitted(planned("l4", "qwen2_5_3b_instruct", "hardware.memory_gib=null"))
    assert (found.run.hardware.micro_batch_size, found.run.hardware.gradient_checkpointing) == (1, True)
    assert found.said == ["micro-batch 1 with checkpointing, to be careful: hardware.memory_gib is null"]


def test_kto_keeps_two_in_a_micro_batch(planned):
    run = planned("t4", "qwen2_5_7b_instruct", "algo=kto hardware.memory_gib=9")
    assert fit.fitted(run).run.hardware.micro_batch_size == 2


def test_two_cards_share_the_batch(planned):
    one, two = (planned("v100", "qwen2_5_3b_instruct", f"paper=grpo_medical hardware.gpus={gpus}") for gpus in (1, 2))
    assert fit.fitted(two).run.hardware.split(6) == (1, 3) and fit.fitted(one).run.hardware.split(6) == (1, 6)


@pytest.mark.parametrize(("card", "model", "more", "advice"), TOO_SMALL)
def test_a_card_that_is_too_small_is_told_what_fits(planned, card, model, more, advice):
    run = planned(card, model, more)
    found = fit.fitted(run)
    held = memory.estimate(found.run, run.algo, found.shape or shape_of(run.model.weights), run.algo.max_prompt_tokens(run))
    assert not fit.fits(found.run, held)
    assert advice in fit.ways_out(run, shape_of(run.model.weights))


# --- Without the hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def cut_off(monkeypatch):
    """A machine from which the hub cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_full_scale_command_is_planned_without_the_hub(cut_off, compose, capsys, tmp_path):
    words = ["source=hub", "model=qwen2_5_3b_instruct", "hardware=t4", "dry_run=true", f"runs={tmp_path}", "paper=grpo_medical"]
    found = lifecycle.run(compose(words))
    said = capsys.readouterr().out
    assert "warning  planned at the limits" in said and "HF_HUB_OFFLINE=1 forbids to fetch it" in said
    assert found["evaluation"]["rows"] == {"pubmedqa": 500, "gsm8k": 1319, "health_benchmarks": None}
    assert "health_benchmarks (size not known here, not counted) rows by what is published: 3,638 completions" in said
    assert found["memory"]["peak"] < 15 * memory.GIB and "T4, 15 GiB" in said and "fit      micro-batch 1 without " in said
    assert "s a step, " in said and "an estimate of what T4's data sheet promises" in said
    twins = lifecycle.run(compose([*words, "source=embedded", "source.test_rows=12", "source.train_rows=100"]))
    assert twins["evaluation"]["rows"] == dict.fromkeys(found["evaluation"]["rows"], 12)  # which need no hub; the tokenizer does
    limited = lifecycle.run(compose([*words, "eval=quick"]))
    assert limited["evaluation"]["rows"] == {"pubmedqa": 100, "gsm8k": 100, "health_benchmarks": 100}
    assert limited["estimate"]["evaluation"] < found["estimate"]["evaluation"]


def test_every_stage_of_a_chain_is_planned_without_the_hub(cut_off, capsys, tmp_path):
    words = ["chain=sft_grpo", "source=hub", "model=qwen2_5_0_5b_instruct", "hardware=t4", "dry_run=true", f"runs={tmp_path}"]
    assert chain.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("warning  planned at the limits") == 2 and "chain sft_grpo, stage grpo" in said


def test_the_plan_names_what_makes_a_run_fit(cut_off, compose, capsys, tmp_path):
    words = ["source=hub", "model=qwen2_5_7b_instruct", "hardware=p100", "dry_run=true", f"runs={tmp_path}"]
    found = lifecycle.run(compose(words))
    assert found["memory"]["peak"] > 15 * memory.GIB
    said = "are key-value cache: algo.batch_size=6 makes it 12.1 GiB\n"
    assert found["memory"]["warning"].endswith(said.strip()) and said in capsys.readouterr().out


def test_a_model_that_nothing_is_known_of_needs_the_hub(cut_off, compose, tmp_path):
    words = ["source=hub", "model=pretrained", "model.weights=org/unknown", "hardware=t4", "dry_run=true", f"runs={tmp_path}"]
    with pytest.raises(Unreachable, match="org/unknown cannot be read"):
        lifecycle.run(compose(words))


def test_what_is_wrong_with_a_request_is_no_missing_hub():
    from medrl.data.hf_hub import hub_error

    assert not isinstance(hub_error("model", "org/name", ValueError("no such thing")), Unreachable)
    assert isinstance(hub_error("model", "org/name", __import__("httpx").ConnectError("no route")), Unreachable)


# --- How long --------------------------------------------------------------------------------------------------------


def test_the_estimate_of_time_gives_what_was_measured_on_an_h200(planned):
    more = "algo.batch_size=64 algo.num_generations=8 algo.max_completion_tokens=512 model.quantization=null algo.beta=0"
    split = "hardware.micro_batch_size=16 hardware.gradient_checkpointing=true hardware.shared_prompts=false"
    run = fit.fitted(planned("h200", "qwen2_5_3b_instruct", f"{more} {split}")).run
    found = duration.pace(run, shape_of("Qwen/Qwen2.5-3B"))
    # GRPO of 64 completions of 512 tokens to prompts of 375 on average: 10.0 s a step.
    assert duration.of_training(run, run.algo, found, 375).step == pytest.approx(10.0, rel=0.15)
    small = planned("h200", "qwen2_5_0_5b_instruct", "algo=none hardware.rollout=transformers")
    # 1,819 questions, up to 512 tokens each: 65 to 70 s, most of them ended earlier.
    pace = duration.pace(small, shape_of("Qwen/Qwen2.5-0.5B"))
    assert 65 < duration.of_answers(small, pace, 1819, 200, 512) < 130
    by_vllm = planned("h200", "qwen2_5_0_5b_instruct", "algo=none")
    few, many = (duration.of_answers(by_vllm, pace, count, 200, 512) for count in (10, 10_000))
    assert few > duration.of_answers(small, pace, 10, 200, 512) and many < duration.of_answers(small, pace, 10_000, 200, 512)


def test_a_slower_card_takes_longer(planned):
    def step(card):
        run = fit.fitted(planned(card, "qwen2_5_0_5b_instruct")).run
        return duration.of_training(run, run.algo, duration.pace(run, shape_of("Qwen/Qwen2.5-0.5B")), 300).step

    order = ["b200", "h100", "a100", "l4", "t4"]
    assert [step(card) for card in order] == sorted(map(step, order))
    cpu = replace(planned("t4", "qwen2_5_0_5b_instruct"), hardware=build.build(composing.tree(["hardware=cpu"])["hardware"]))
    assert duration.pace(cpu, shape_of("Qwen/Qwen2.5-0.5B")) is None


def test_a_card_is_known_by_its_name_or_refused():
    with pytest.raises(UserError, match=r"hardware\.card  k80 is none of p100"):
        composing.compose(["hardware=t4", "hardware.card=k80", "dry_run=true"])
    assert composing.tree(["hardware=auto", "hardware.card=l40s"])["hardware"]["memory_gib"] == cards.known()["l40s"].memory_gib


# --- Training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_trains_with_what_was_decided(compose, tmp_path):
    words = [
        "algo=sft",
        "data_mix=pubmedqa",
        "data_mix.rows=48",
        "source.train_rows=100",
        "source.test_rows=8",
        "algo.max_steps=1",
    ]
    words += ["algo.batch_size=16", "eval.limit=1", "eval.max_new_tokens=8", "hardware=cpu", f"runs={tmp_path}"]
    tree = compose(words)
    undecided = dict.fromkeys(("micro_batch_size", "gradient_checkpointing"), "auto")  # as on a GPU
    metrics = lifecycle.run({**tree, "hardware": {**tree["hardware"], **undecided, "memory_gib": 2.0}})
    (folder,) = tmp_path.glob("sft-*")
    planned = read_json(folder / "plan.json")
    assert planned["batch"]["micro-batch"] == 4 and planned["fit"][0].startswith("micro-batch ")
    assert planned["memory"]["peak"] <= fit.FULL * 2 * memory.GIB
    assert metrics["run_id"] == schema.run_id(build.check(tree))  # as with any other split
    assert frozen.load(folder)["hardware"]["micro_batch_size"] == "auto"
