"""`source=hub` and weights from a hub, read for real from a server on the loopback address.

huggingface_hub and datasets take their settings when they are imported, so the reading is done by other processes: this file, run
as a program, reads what standard input lists and prints what came of it. `python -m medrl` itself is run too.
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import traceback
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from loopback_hub import Fault, LoopbackHub, commit_of
from omegaconf import OmegaConf

from medrl.config import build
from medrl.config.frozen import root
from medrl.data.hf_hub import hub_error
from medrl.data.sources import Hub
from medrl.errors import UserError
from medrl.models.base import EMBEDDED
from medrl.tasks.gsm8k import GSM8K
from medrl.tasks.pubmedqa import official_test_ids

REPOSITORY = Path(__file__).parent.parent
# What a mix hands to its tasks, and the tasks; rows of one's own are in no repository.
GIVEN = {"data_mix": {"format": "xml"}, "judge": OmegaConf.load(root("conf") / "judge" / "lexical.yaml")}
NODES = {
    path.stem: OmegaConf.to_container(OmegaConf.create({**GIVEN, "node": OmegaConf.load(path)}).node, resolve=True)
    for path in sorted((root("conf") / "task").glob("*.yaml"))
    if path.stem != "rows"
}
SPECIALTIES = ("Cardiology", "Nutrition", "Neurology")  # of the fifty-odd, in the order of the card, which is no alphabet's
PARQUET = {"cais/mmlu", "openai/gsm8k", "openlifescienceai/medmcqa", "qiaojin/PubMedQA"}  # the others are JSON lines
SETTINGS = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "XDG_CACHE_HOME")  # of the machine that runs the tests: not passed on
ONE_MODEL_AT_A_TIME = threading.Lock()  # transformers builds models under a setting of the whole process
ONE_READER_AT_A_TIME = defaultdict(threading.Lock)  # of each repository: two threads would write the same file of the cache


# --------------------------------------------------------------------------------------------------------------------------------
# What the hub holds


def published():
    """Repositories as they are published, by their names: files, and the rows in them by ``config/split``: twins, 40 a split."""
    found = {}
    for name, node in NODES.items():
        task = build.build(node)
        rows = found.setdefault(task.hub_id, {})
        for split in ("train", "test"):
            place = task.location(split)
            for key, config in keys_of(place):
                rows[key] = [task.twin(random.Random(f"{key}:{number}"), config) for number in range(40)]
                if name == "pubmedqa" and place.keep:
                    for row, official in zip(rows[key][::4], sorted(official_test_ids()), strict=False):
                        row["pubid"] = official
                if name == "mmlu_medical":
                    rows[key][3]["subject"] = "virology"  # not among those that are asked for
    return {hub_id: (files_of(rows, "parquet" if hub_id in PARQUET else "jsonl"), rows) for hub_id, rows in found.items()}


def keys_of(place):
    """``config/split`` and configuration of every file that a location reads, in order."""
    configs = SPECIALTIES if place.configs == ("*",) else place.configs
    return [(f"{config}/{config if place.split == '*' else place.split}", config) for config in configs]


def files_of(rows, ending):
    """Data files with the card that says which configuration and split each of them is."""
    encode = jsonl if ending == "jsonl" else parquet
    configs = {}
    for key in rows:
        config, _, split = key.partition("/")
        configs.setdefault(config, []).append({"split": split, "path": f"{config}/{split}-*"})
    card = {"configs": [{"config_name": config, "data_files": splits} for config, splits in configs.items()]}
    files = {f"{key}-00000-of-00001.{ending}": encode(rows[key]) for key in rows}
    return {**files, "README.md": f"---\n{yaml.safe_dump(card)}---\n# Twins\n".encode()}


def parquet(rows):
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


PUBLISHED = published()
GSM8K_FILES, GSM8K_ROWS = PUBLISHED["openai/gsm8k"]
TINY = {path.name: path.read_bytes() for path in (EMBEDDED / "tiny").iterdir()}

# What goes wrong with the repository NAME/gsm8k, what the message says of it, and what it says to do.
FAULTS = {
    "gated": (Fault("gated/gsm8k/resolve", status=401, code="GatedRepo"), "its owner has to permit it (401)", "set HF_TOKEN"),
    "asking": (
        Fault("asking/gsm8k/resolve", status=403, code="GatedRepo"),
        "its owner has to permit it (403)",
        "accept its terms",
    ),
    "token": (Fault("token/gsm8k", status=401), "or it is private (401)", "set HF_TOKEN to a valid token"),
    "limited": (Fault("limited/gsm8k", status=429, retry_after=1), "the hub answered 429", "again later"),
    "shut": (Fault("shut/gsm8k", status=429, retry_after=300), "the hub answered 429", "again later"),
    "damaged": (
        Fault("damaged/gsm8k/.*parquet", method="GET", flip_bytes=True),
        "its files are damaged",
        "datasets--damaged--gsm8k",
    ),
}
# The same for what takes a while, because the client or this package hopes for better.
SLOW_FAULTS = {
    "down": (Fault("/down/gsm8k", status=500), "the hub answered 500", "again later"),
    "tree": (Fault("tree/gsm8k/tree", status=503), "the hub answered 503", "again later"),
    "files": (Fault("files/gsm8k/.*parquet", status=500), "the hub answered 500", "again later"),
    "cut": (
        Fault("cut/gsm8k/.*parquet", method="GET", cut_after=700),
        "the hub or the network is in trouble",
        "run the same command again",
    ),
    "slow": (Fault("slow/gsm8k", delay=3), "the hub or the network is in trouble", "check the network"),
}
# The same for weights, NAME/tiny.
MODEL_FAULTS = {
    "absent": (None, "there is no such model, or it is private", "check the name"),
    "gated": (Fault("gated/tiny/resolve", status=401, code="GatedRepo"), "its owner has to permit it (401)", "set HF_TOKEN"),
    "damaged": (
        Fault("damaged/tiny/.*safetensors", method="GET", flip_bytes=True),
        "its files are damaged",
        "models--damaged--tiny",
    ),
}
# What goes wrong for a while only.
RECOVERIES = {
    "busy": Fault("busy/gsm8k", status=429, retry_after=1, times=2),
    "hiccup": Fault("hiccup/gsm8k/tree", status=503, times=1),
    "pause": Fault("pause/gsm8k/.*parquet", status=429, retry_after=0, times=3),
    "again": Fault("again/gsm8k/.*parquet", method="GET", cut_after=700, times=1),
}
# What the user wrote in the place of a split of openai/gsm8k.
MISTAKES = {
    "absent": ({"repository": "absent/gsm8k"}, "there is no such data set, or it is private", "check the name"),
    "empty": ({"repository": "empty/gsm8k"}, "EmptyDatasetError", "check its name"),
    "config": ({"place": "nope/train"}, "BuilderConfig 'nope' not found. Available: ['main']", "data_mix.tasks."),
    "split": ({"place": "main/nope"}, "has no split 'nope' in its configuration 'main' but test, train", "data_mix.tasks."),
    "revision": ({"revision": "v9"}, "it has no such revision", "check source.revision"),
}


@pytest.fixture(scope="module")
def hub():
    datasets = {name: files for name, (files, _) in PUBLISHED.items()}
    datasets |= {f"{name}/gsm8k": GSM8K_FILES for name in (*FAULTS, *SLOW_FAULTS, *RECOVERIES, "moved")}
    datasets |= {"empty/gsm8k": {"README.md": b"# Nothing yet\n"}}
    models = {f"{name}/tiny": TINY for name in ("medrl", *MODEL_FAULTS) if name != "absent"}
    faulty = (*FAULTS.values(), *SLOW_FAULTS.values(), *MODEL_FAULTS.values())
    faults = [*RECOVERIES.values(), *(fault for fault, _, _ in faulty if fault)]
    with LoopbackHub(datasets, models, faults) as started:
        yield started


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


# --------------------------------------------------------------------------------------------------------------------------------
# Reading in another process


def environment(endpoint, home, **more):
    """The settings of a process that knows only this hub and this cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    # One thread: several that share few cores with other tests wait for each other more than they compute.
    ours = {"PYTHONPATH": str(REPOSITORY), "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return {**kept, **ours, **more}


def read(wanted, endpoint, home, **more):
    """Run this file: what came of each wanted thing, by its name."""
    process = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(wanted),
        env=environment(endpoint, home, **more),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def came_of(wanted):
    """In the other process: read one thing."""
    try:
        return weights(wanted["weights"]) if "weights" in wanted else split(**wanted)
    except UserError as error:
        return {"error": str(error)}
    except Exception:  # a red test of one case, not of all
        return {"error": traceback.format_exc()}


def split(node=None, repository="openai/gsm8k", place="main/train", side="train", revision=None):
    """In the other process: the rows of a split and where they came from."""
    elsewhere = type("Elsewhere", (GSM8K,), {"hub_id": repository})
    task = build.build(node) if node else elsewhere(train=place, test=place, format="xml")
    source = Hub(revision=revision)
    with ONE_READER_AT_A_TIME[task.hub_id]:
        rows = list(source.rows(task, side))
        fingerprint = source.fingerprint(task, side)
    configs = list(dict.fromkeys(row.config for row in rows))
    return {"fingerprint": fingerprint, "rows": [row.values for row in rows], "configs": configs}


def weights(name):
    """In the other process: load a model whole."""
    files = [
        yaml.safe_load((root("conf") / file).read_text(encoding="utf-8"))
        for file in ("model/_base.yaml", "model/pretrained.yaml")
    ]
    node = {**files[0], **files[1], "weights": name}
    del node["defaults"]  # which name the first file
    model = build.build(node)
    with ONE_MODEL_AT_A_TIME:
        tokenizer = model.tokenizer(list)
        policy = model.policy(tokenizer, SimpleNamespace(device="cpu", precision="fp32"), 0)
    return {"fingerprint": model.fingerprint(), "vocabulary": len(tokenizer), "parameters": policy.num_parameters()}


def main():
    import datasets  # noqa: F401 - not first imported by many threads at once
    import transformers  # noqa: F401
    from tqdm import tqdm

    tqdm.get_lock()  # or the thread that first asks for one takes it away from the others when it is done
    wanted = json.load(sys.stdin)
    with ThreadPoolExecutor(len(wanted)) as pool:  # most of them wait
        json.dump(dict(zip(wanted, pool.map(came_of, wanted.values()), strict=True)), sys.stdout)


@pytest.fixture(scope="module")
def came(hub, home):
    """What came of everything that is answered soon."""
    wanted = {f"{name}/{side}": {"node": node, "side": side} for name, node in NODES.items() for side in ("train", "test")}
    wanted |= {f"{name}/gsm8k": {"repository": f"{name}/gsm8k"} for name in (*FAULTS, *RECOVERIES, "moved")}
    wanted |= {f"{name}/tiny": {"weights": f"{name}/tiny"} for name in ("medrl", *MODEL_FAULTS)}
    wanted |= {f"mistaken {name}": mistake for name, (mistake, _, _) in MISTAKES.items()}
    wanted["one specialty"] = {"node": {**NODES["health_benchmarks"], "train": "Nutrition/train"}}
    wanted["pinned"] = {"revision": commit_of(GSM8K_FILES)}
    return read(wanted, hub.url, home)


@pytest.fixture(scope="module")
def came_late(hub, home, came):
    """What came of everything that takes a while, and of a repository that has moved on and cannot be fetched."""
    hub.datasets["moved/gsm8k"] = {**GSM8K_FILES, "NEWS.md": b"New rows\n"}
    hub.fail(Fault("moved/gsm8k/tree", status=503))
    wanted = {f"{name}/gsm8k": {"repository": f"{name}/gsm8k"} for name in (*SLOW_FAULTS, "moved")}
    return read(wanted, hub.url, home, HF_HUB_ETAG_TIMEOUT="1")


def assert_one_sentence(message, what, where, why, remedy):
    """What, where, why and what to do, in one line."""
    assert message.startswith(what)
    assert f"cannot be read from {where}: " in message or "has no split" in message
    assert why in message and remedy in message
    assert "\n" not in message and message.endswith(".")


# --------------------------------------------------------------------------------------------------------------------------------
# Rows and weights


@pytest.mark.parametrize("name", NODES)
def test_rows_arrive_as_they_were_published(name, came):
    """Configurations, splits and the split that has its configuration's name; Parquet and JSON Lines."""
    task = build.build(NODES[name])
    files, rows = PUBLISHED[task.hub_id]
    for side in ("train", "test"):
        place = task.location(side)
        expected = [row for key, _ in keys_of(place) for row in rows[key] if place.keep is None or place.keep(row)]
        got = came[f"{name}/{side}"]
        assert got["rows"] == expected and expected
        assert got["fingerprint"] == {
            "repository": task.hub_id, "config": ", ".join(place.configs), "split": place.split, "commit": commit_of(files),
        }  # fmt: skip


def test_all_configurations_are_read_one_after_the_other(came):
    """Every specialty, each in the split that has its name; a question is in train or in test and never in both."""
    files, rows = PUBLISHED["yesilhealth/Health_Benchmarks"]
    assert list(rows) == [f"{name}/{name}" for name in SPECIALTIES] and {len(part) for part in rows.values()} == {40}
    train, test = (came[f"health_benchmarks/{side}"] for side in ("train", "test"))
    order = [row for part in rows.values() for row in part]
    found = sorted([*train["rows"], *test["rows"]], key=order.index)
    assert found == order and train["configs"] == list(SPECIALTIES)
    assert came["one specialty"]["rows"] == [row for row in train["rows"] if row in rows["Nutrition/Nutrition"]]
    assert came["one specialty"]["configs"] == ["Nutrition"]
    assert train["fingerprint"]["commit"] == came["one specialty"]["fingerprint"]["commit"] == commit_of(files)
    assert train["fingerprint"]["config"] == "*" and came["one specialty"]["fingerprint"]["config"] == "Nutrition"


def test_the_official_test_split_is_told_from_the_rest_by_its_ids(came):
    ids = {row["pubid"] for row in came["pubmedqa/test"]["rows"]}
    assert ids <= official_test_ids() and len(ids) == 10


def test_weights_load_whole_from_the_hub(came):
    assert came["medrl/tiny"]["fingerprint"] == {"repository": "medrl/tiny", "commit": commit_of(TINY)}
    assert came["medrl/tiny"]["parameters"] > 1_000_000 and came["medrl/tiny"]["vocabulary"] > 300


def test_a_commit_can_be_asked_for(came):
    assert came["pinned"]["rows"] == GSM8K_ROWS["main/train"]
    assert came["pinned"]["fingerprint"]["commit"] == commit_of(GSM8K_FILES)


@pytest.mark.parametrize("name", RECOVERIES)
def test_a_bad_moment_passes(name, came):
    assert came[f"{name}/gsm8k"].get("rows") == GSM8K_ROWS["main/train"], came[f"{name}/gsm8k"]


# --------------------------------------------------------------------------------------------------------------------------------
# Mistakes and failures


@pytest.mark.parametrize("name", FAULTS)
def test_a_hub_that_refuses(name, came, hub):
    got = came[f"{name}/gsm8k"]
    assert_one_sentence(got["error"], f"{name}/gsm8k", hub.url, *FAULTS[name][1:])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_name(name, came, hub):
    repository = MISTAKES[name][0].get("repository", "openai/gsm8k")
    assert_one_sentence(came[f"mistaken {name}"]["error"], repository, hub.url, *MISTAKES[name][1:])


@pytest.mark.parametrize("name", MODEL_FAULTS)
def test_weights_that_cannot_be_had(name, came, hub):
    assert_one_sentence(came[f"{name}/tiny"]["error"], f"{name}/tiny", hub.url, *MODEL_FAULTS[name][1:])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written(number):
    from huggingface_hub.constants import ENDPOINT

    error = hub_error("dataset", "a/b", OSError(number, os.strerror(number), "/cache/blob"), "main/train")
    why = f"the cache cannot be written ([Errno {number}] {os.strerror(number)}: '/cache/blob')"
    assert_one_sentence(str(error), "a/b (main/train)", ENDPOINT, why, "make room or set HF_HOME to another folder")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_FAULTS)
def test_a_hub_in_trouble_is_given_up(name, came_late, hub):
    got = came_late[f"{name}/gsm8k"]
    assert_one_sentence(got["error"], f"{name}/gsm8k", hub.url, *SLOW_FAULTS[name][1:])


@pytest.mark.slow
def test_old_rows_of_the_cache_never_stand_in_for_new_ones(came, came_late, hub):
    """datasets itself would read them, with a warning."""
    old, new = commit_of(GSM8K_FILES), commit_of(hub.datasets["moved/gsm8k"])
    assert came["moved/gsm8k"]["fingerprint"]["commit"] == old != new
    pattern = f"moved/gsm8k at commit {new} can neither be fetched .* holds commit {old}; set source.revision={old} "
    assert re.match(pattern, came_late["moved/gsm8k"]["error"])


@pytest.mark.slow
def test_offline_reads_what_was_fetched_before_and_asks_nobody(came, hub, home):
    asked = len(hub.requests)
    wanted = {
        "rows": {"node": NODES["pubmedqa"], "side": "test"},
        "all": {"node": NODES["health_benchmarks"], "side": "train"},
        "weights": {"weights": "medrl/tiny"},
        "absent": {"repository": "never/fetched"},
        "config": {"place": "socratic/train"},
    }
    got = read(wanted, hub.url, home, HF_HUB_OFFLINE="1")
    assert len(hub.requests) == asked
    for name, online in (("rows", "pubmedqa/test"), ("all", "health_benchmarks/train"), ("weights", "medrl/tiny")):
        assert got[name] == came[online]
    why = "it is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it"
    assert_one_sentence(got["absent"]["error"], "never/fetched", hub.url, why, "unset HF_HUB_OFFLINE")
    assert_one_sentence(got["config"]["error"], "openai/gsm8k", hub.url, "'socratic'", "data_mix.tasks.")


# --------------------------------------------------------------------------------------------------------------------------------
# The command


def medrl(folder, endpoint, *options, **more):
    command = [sys.executable, "-m", "medrl", "algo=none", "hardware=cpu", "data_mix=gsm8k", f"runs={folder}/runs", *options]
    env = environment(endpoint, folder / "home", **more)
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_run_reads_data_and_weights_from_the_hub(hub, tmp_path):
    asked = (
        "source=hub",
        "model=pretrained",
        "model.lora=null",
        "model.weights=medrl/tiny",
        "eval=quick",
        "eval.limit=4",
        "eval.max_new_tokens=16",
    )
    done = medrl(tmp_path, hub.url, *asked)
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "runs").glob("[!.]*") if path.is_dir())  # beside the ledger of test splits
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    about = {"repository": "openai/gsm8k", "config": "main", "commit": commit_of(GSM8K_FILES)}
    assert provenance["data"] == {f"gsm8k/{side}": {**about, "split": side} for side in ("train", "test")}
    assert provenance["model"] == {"repository": "medrl/tiny", "commit": commit_of(TINY)}
    lines = [
        json.loads(line) for path in (folder / "eval").glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()
    ]
    golds = {row["answer"].rpartition("#### ")[2] for row in GSM8K_ROWS["main/test"]}
    assert len(lines) == 4 and {line["gold"] for line in lines} <= golds  # a sample by hash
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["source"] == "hub" and metrics["synthetic"] is False and metrics["tasks"]["gsm8k"]["n"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "more", "what", "why"),
    [
        (["source=hub"], {}, "openai/gsm8k", "the hub or the network is in trouble ([Errno 111] Connection refused)"),
        (["source=hub"], {"HF_HUB_OFFLINE": "1"}, "openai/gsm8k", "HF_HUB_OFFLINE=1 forbids to fetch it"),
        pytest.param(
            ["model=pretrained", "model.weights=medrl/tiny"],
            {},
            "medrl/tiny",
            "the hub or the network is in trouble ([Errno 111] Connection refused)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_nobody_to_ask(options, more, what, why, tmp_path):
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = medrl(tmp_path, endpoint, *options, **more)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert_one_sentence(line, f"medrl: {what}", endpoint, why, "HF_HUB_OFFLINE")


if __name__ == "__main__":
    main()
