"""Secrets planted wherever a user may have some: no command prints one, and no file of any command holds one.

What is planted: values of environment variables that hold keys; user, password and query in the addresses of a hub, a proxy, an
endpoint and weights; a key where the name of a variable belongs; and an endpoint that repeats the key which it was sent.
"""

import json
import subprocess
import sys

import killed
import pytest
import yaml
from loopback_judge import LoopbackJudge, Reply

pytestmark = [pytest.mark.slow, pytest.mark.long]
PLANTED = {
    name: f"planted{number:02}-3f9Zq7Lw{name.lower()[:3]}x81"
    for number, name in enumerate(
        (
            "OPENAI_API_KEY",
            "JUDGE_KEY",
            "HF_TOKEN",
            "WANDB_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "DB_PASSWORD",
            "HUB",
            "PROXY",
            "URL",
        )
    )
}
ADDRESS = f"http://me:{PLANTED['HUB']}@127.0.0.1:9"
QUERY = f"https://host/v1?api-key={PLANTED['URL']}"
SMALL = (
    *("hardware=cpu", "source.train_rows=60", "source.test_rows=4", "data_mix.rows=24", "algo.max_steps=2", "algo.epochs=null"),
    *("algo.batch_size=2", "eval.max_new_tokens=16", "eval.limit=4"),
)
SFT = ("algo=sft", "data_mix=gsm8k", *SMALL)
REFUSED = {
    # What a user may write by mistake: a command with a secret in it, which ends in a sentence without it.
    "an endpoint with a password": ("algo=none", "judge=openai", f"judge.base_url=https://me:{PLANTED['URL']}@host/v1"),
    "an endpoint with a query": ("algo=none", "judge=openai", f"judge.base_url={QUERY}"),
    "the same in quotes": ("algo=none", "judge=openai", f"judge.base_url='{QUERY}'"),
    "a key for the name of a variable": ("algo=none", "judge=openai", f"judge.api_key_env=sk-{PLANTED['URL']}"),
    "a key for a name": (*SFT, f"name=sk-{PLANTED['URL']}"),
    "a key of the environment": (*SFT, f"name={PLANTED['DB_PASSWORD']}"),
    "weights at an address": (*SFT, "model=pretrained", f"model.weights=https://me:{PLANTED['URL']}@host/m"),
    "a folder of runs": (*SFT, f"runs='{QUERY}'"),
    "a key of an option": (*SFT, f"model.api_key={PLANTED['URL']}"),
    "a point of a grid": ("-m", "algo=none", "judge=openai", f"judge.base_url=https://me:{PLANTED['URL']}@host/v1,http://b"),
    "a stage of a chain": ("chain=sft_grpo", "sft.model=pretrained", f"sft.model.weights=https://me:{PLANTED['URL']}@host/m"),
}
HUB = {
    # What ends at a hub that cannot be reached, whose address holds a password.
    "rows": ("algo=sft", "data_mix=gsm8k", "source=hub", "hardware=cpu"),
    "weights": (*SFT, "model=qwen2_5_0_5b_instruct"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which everything lies that commands write, the user's home and caches included."""
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def variables(place):
    """The environment of each command. Nothing of it reaches the network: every address is of this machine."""
    planted = {name: value for name, value in PLANTED.items() if "_" in name}
    homes = {"HOME": str(place / "home"), "MEDRL_CACHE": str(place / "cache"), "HF_HOME": str(place / "hub")}
    proxy = f"http://me:{PLANTED['PROXY']}@127.0.0.1:9"
    return {
        **planted, **homes, "HF_ENDPOINT": ADDRESS, "HF_HUB_OFFLINE": "0", "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1",
        "WANDB_MODE": "offline", "WANDB_SILENT": "false",
    }  # fmt: skip


@pytest.fixture(scope="module")
def said(place, variables):
    """What every command has printed, by its words."""
    printed = {}

    def run(*words, module="medrl", ends=0):
        done = killed.ended(*words, module=module, folder=place, **variables)
        printed[" ".join((module, *words))] = done.stdout
        assert (done.returncode == 0) == (ends == 0), (words, done.stdout)

    with LoopbackJudge() as endpoint:
        key = PLANTED["JUDGE_KEY"]
        endpoint.otherwise = Reply(content=json.dumps({"reason": f"With {key} I say so.", "same": True}), served=key)
        judge = ("judge=openai", f"judge.base_url={endpoint.url}", "judge.api_key_env=JUDGE_KEY")
        run(
            "algo=sft",
            "data_mix=medical_o1_verifiable",
            *judge,
            *SMALL,
            "name=judged",
            "logger=wandb_offline",
            "model/lora=all_linear",
        )
        folder = next((place / "runs").glob("judged-*"))
        assert endpoint.requests and endpoint.requests[0].headers["Authorization"] == f"Bearer {key}"
        endpoint.otherwise = Reply(status=401, error={"message": f"no such key: {key}", "code": key})
        run("algo=none", "data_mix=medical_o1_verifiable", *judge, *SMALL[:3], "name=refused", "eval.limit=2", ends=1)
        endpoint.otherwise = Reply(content=json.dumps({"reason": key, "same": False}))
        (place / "texts.jsonl").write_text('{"text": "It is gout.", "gold": "flu"}\n')
        run("input=texts.jsonl", "output=graded.jsonl", "answer_type=free_text", *judge, module="medrl.grade")
        (place / "questions.jsonl").write_text('{"question": "What is 2 + 3?"}\n')
        api = ("openai_compatible", "model.name=m", f"model.base_url={endpoint.url}", "model.api_key_env=JUDGE_KEY")
        run(*api, "input=questions.jsonl", "output=answers.jsonl", module="medrl.predict")
        run(str(folder), "share=0.5", module="medrl.verify")
    run(*SFT, "dry_run=true")
    run("-m", *SFT, "seed=0,1")
    run("chain=sft_grpo", *SMALL, "data_mix=gsm8k", "algo.batch_size=4", "grpo.algo.num_generations=2")
    parameters = {"seed": {"values": [3, 4]}}
    command = ["${env}", "python", "-m", "medrl", *SFT, "${args_no_hyphens}"]
    metric = {"name": "train/loss", "goal": "minimize"}
    (place / "sweep.yaml").write_text(
        yaml.safe_dump({"method": "grid", "metric": metric, "parameters": parameters, "command": command})
    )
    run("sweep.yaml", module="medrl.sweep")
    runs = [str(path.parent) for path in sorted((place / "runs").glob("*/metrics.json"))]
    for words in ((), ("--format", "markdown"), ("--format", "csv"), ("--format", "latex")):
        run(*runs, *words, module="medrl.table")
    run(str(folder), module="medrl.report")
    run(*runs[:2], "output=comparison.html", module="medrl.report")
    run("runs", "output=index.html", module="medrl.report")
    run(str(folder), "formats=adapter,merged", "rows=2", module="medrl.export")
    run(str(folder), "input=questions.jsonl", "output=ours.jsonl", module="medrl.predict")
    run(str(folder), "question=What is 2 + 3?", module="medrl.chat")
    return printed


@pytest.fixture(scope="module")
def refused(place, variables):
    """What the commands of `REFUSED` and `HUB` have printed, by name; none of them has ended well."""
    printed = {}
    for name, words in REFUSED.items():
        done = killed.ended(*words, folder=place, **variables)
        printed[name] = (done.returncode, done.stdout)
    for name, words in HUB.items():  # processes of their own: the hub's address is read as its library is imported
        command = [sys.executable, "-m", "medrl", *words]
        done = subprocess.run(command, cwd=place, env=killed.environment(**variables), capture_output=True, text=True)
        printed[name] = (done.returncode, done.stdout + done.stderr)
    assert all(code for code, _ in printed.values())
    return {name: text for name, (_, text) in printed.items()}


def planted_in(text):
    return [name for name, value in PLANTED.items() if value in text]


def test_a_mistake_is_one_sentence_without_the_secret(refused):
    assert len(refused) == len(REFUSED) + len(HUB)
    for name, text in refused.items():
        assert "Traceback" not in text and "medrl: " in text and not planted_in(text), (name, text)


def test_no_command_prints_a_secret(said):
    assert len(said) > 15 and all(said.values())
    assert not {words: planted_in(text) for words, text in said.items() if planted_in(text)}


def test_no_file_holds_a_secret(refused, said, place):
    files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"config.yaml", "verdicts.jsonl", "report.html", "provenance.json"} <= {path.name for path in files}
    held = {
        name: planted_in(name + path.read_bytes().decode("latin-1")) for path in files if (name := str(path.relative_to(place)))
    }
    assert not {name: found for name, found in held.items() if found}
