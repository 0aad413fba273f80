"""Stored results: what is in the repository, what is read out of a run folder, and what is refused."""

import copy
import json
import re
from pathlib import Path

import pytest

from medrl.config import frozen
from medrl.errors import UserError
from medrl.table import readme, results
from medrl.tracking import run_folder

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"chain-algorithms": "chain", "chain-medicalgpt": "chain", "paper-pangu_dxbench": "runs", "real-gsm8k": "runs"}
FILES = sorted((ROOT / "experiments" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def record():
    """A real record: GRPO on the twins."""
    return json.loads((ROOT / "tests/cases/record.json").read_text(encoding="utf-8"))


def folder_of(record, path, command=("python", "-m", "medrl", "algo=grpo")):
    """A run folder whose record this is."""
    path.mkdir(parents=True)
    metrics = {key: value for key, value in record.items() if key not in ("words", "machine")}
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "provenance.json").write_text(json.dumps({**record["machine"], "command": list(command), "platform": "x"}))
    (path / "config.yaml").write_text("seed: 3\nalgo: {beta: 0.01, steps: null}\n")
    return path


def stored(path, **changed):
    whole = {"schema": 1, "kind": "runs", "name": "a", "title": "A", "command": "", "notes": [], "runs": []}
    path.write_text(json.dumps({**whole, **changed}))
    return path


# --- What the repository holds -----------------------------------------------------------------------------------------


def test_the_readme_is_made_of_the_results():
    assert (ROOT / "experiments/README.md").read_text(encoding="utf-8") == readme.markdown(results.stored()), (
        "experiments/README.md is stale: python -m medrl.table --readme"
    )


def test_there_are_results():
    assert {name: found["kind"] for name, found in results.stored().items() if name in KINDS} == KINDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stored_results_are_whole_and_name_no_machine_s_folders(path):
    found = results.read(path)
    assert found["name"] == path.stem and found["title"] and found["command"] and found["runs"]
    assert not re.findall(r'[ "=](?:/\w[\w.-]*){2,}', path.read_text(encoding="utf-8"))  # absolute paths
    for record in found["runs"]:
        assert record["words"] and record["machine"]["cpus"] and record["machine"]["packages"]["torch"]
        assert record["synthetic"] == ("synthetic twins" in record["source"])


def test_the_rounds_in_a_note_are_those_of_the_records():
    found = results.read(ROOT / "experiments/results/paper-pangu_dxbench.json")
    (note,) = [note for note in found["notes"] if "| round 1 |" in note]
    assert len(found["runs"]) == 6
    for record in found["runs"]:
        task = record["tasks"]["dxbench"]
        held_out = [task["base"], *task["earlier"].values(), task]
        cells = [f"{100 * each['accuracy']:.1f} [{100 * each['ci95'][0]:.1f}, {100 * each['ci95'][1]:.1f}]" for each in held_out]
        order = "as published" if "published" in record["tasks"]["dxbench"]["split"] else "shuffled"
        assert f"| {order} | {record['seed']} | {' | '.join(cells)} |" in note
        assert held_out[-1]["accuracy"] == record["tasks"]["dxbench"]["accuracy"]


# --- The record of a run -----------------------------------------------------------------------------------------------


def test_a_record_is_the_metrics_with_words_and_machine(record, tmp_path):
    words = ("algo=grpo", "runs=/somewhere/runs", f"model.run={tmp_path}/sft-1/model", "source.root=/data/medical", "seed=3")
    found = results.of_run(folder_of(record, tmp_path / "grpo-2", ("python", "-m", "medrl", *words)))
    assert found["words"] == ["algo=grpo", "model.run=runs/sft-1/model", "source.root=FOLDER/medical", "seed=3"]
    assert found["machine"] == record["machine"] and set(found["machine"]) == {"cpu", "cpus", "gpus", "packages"}
    assert {key: value for key, value in found.items() if key not in ("words", "machine")} == {
        key: value for key, value in record.items() if key not in ("words", "machine")
    }


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["medrl", "algo=sft"], ["algo=sft"]),
        (["python", "-m", "medrl", "-m", "seed=3,4", "algo.beta=0,0.01"], ["seed=3", "algo.beta=0.01"]),
        (["python", "-m", "medrl", "--multirun", "seed=range(2,4)"], ["seed=3"]),
        (["python", "-m", "medrl", "-m", "algo=grpo,sft"], []),  # which of them it was cannot be told
        (["rounds.py", "true"], []),
    ],
)
def test_words_are_those_of_this_run(record, tmp_path, command, words):
    assert results.of_run(folder_of(record, tmp_path / "grpo-2", command))["words"] == words


def test_a_chain_s_results_name_their_stages(record, tmp_path):
    other = {**record, "run_id": "00000000"}
    places = {"sft": folder_of(record, tmp_path / "sft-1"), "rl": folder_of(other, tmp_path / "rl-1")}
    found = results.of_chain("mine", places, ["chain=mine", f"runs={tmp_path}", "source.root=/data"])
    assert found["command"] == "python -m medrl chain=mine source.root=FOLDER/data"
    run_folder.write_json(tmp_path / "chain-mine.json", found)
    read = results.read(tmp_path / "chain-mine.json")
    assert list(results.stages(read)) == ["sft", "rl"] and results.stages(read)["rl"]["run_id"] == "00000000"


# --- What is refused ---------------------------------------------------------------------------------------------------


def refused(call, *words):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["is damaged; bring it back or make it again"]),
        ("[]", ["is damaged", "it holds no JSON object"]),
        ('{"chain": "medicalgpt", "stages": {}}', ["is no results file: it says no kind"]),
        ('{"schema": 1, "kind": "sweeps"}', ["unknown kind, 'sweeps'; did you mean sweep?"]),
        ('{"schema": 2, "kind": "runs"}', ["of another version of medrl (schema 2, this one reads 1)"]),
        ('{"schema": 1, "kind": "chain", "runs": []}', ["lacks name, title, command, notes, chain"]),
    ],
)
def test_a_file_that_holds_no_results_is_refused(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    refused(lambda: results.read(path), str(path), *words)


def test_records_of_another_version_are_refused(record, tmp_path):
    for changed, words in (
        ({**record, "schema": 2}, ["runs[0]", "another version", "schema 2"]),
        ({key: value for key, value in record.items() if key != "schema"}, ["no schema"]),
        ({key: value for key, value in record.items() if key != "eval"}, ["is no record of a run: it lacks eval"]),
        ("record", ["is no record of a run"]),
    ):
        path = stored(tmp_path / "a.json", runs=[changed])
        refused(lambda path=path: results.read(path), *words)
    path = stored(tmp_path / "a.json", kind="chain", chain={"stages": {"sft": "01234567"}})
    refused(lambda: results.read(path), "names stages whose runs it does not hold (01234567)")


def test_a_folder_that_is_no_finished_run_is_refused(record, tmp_path):
    refused(lambda: results.of_run(tmp_path), "is no finished run: it holds no metrics.json")
    path = folder_of(record, tmp_path / "runs" / "grpo-1")
    refused(lambda: results.of_run(path.parent), f"it holds run folders, so write runs={path.parent}")
    (path / "metrics.json").unlink()
    refused(lambda: results.of_run(path), "is an unfinished run", "run its command again")


def test_two_records_of_a_run_agree_or_are_refused(record):
    again = copy.deepcopy(record)
    again["train"]["seconds"] += 1  # as slow as the machine was that day
    again["eval"]["batch_tokens"] = 1
    assert results.distinct([("a", record), ("b", again)]) == [record]
    again["tasks"]["pubmedqa"]["accuracy"] = 0.5
    refused(
        lambda: results.distinct([("a", record), ("b", again)]),
        f"a and b both claim run {record['run_id']} with the same eval settings, and differ in pubmedqa.accuracy: 1.0 and 0.5",
    )
    again["eval"]["temperature"] = 1.0  # asked otherwise
    assert len(results.distinct([("a", record), ("b", again)])) == 2


# --- The page ----------------------------------------------------------------------------------------------------------


def test_a_sweep_on_the_page(record, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "root", lambda name: tmp_path / name)
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "results" / "lora.md").write_text("# every point")
    points = [{"number": 0, "state": "finished"}, {"number": 1, "state": "failed"}]
    chosen = {"parameters": {"model.lora.rank": 8}, "value": 0.8125, "seeds": [0, 1], "command": "python -m medrl x=1"}
    sweep = {"file": "sweeps/lora.yaml", "method": "grid", "metric": {"name": "validation/pubmedqa/accuracy", "goal": "maximize"}}
    found = {
        "schema": 1, "kind": "sweep", "name": "lora", "title": "Rank", "command": "python -m medrl.sweep sweeps/lora.yaml",
        "notes": ["Before.", "After."], "sweep": {**sweep, "points": points, "chosen": {**chosen, "test": [record["run_id"]]}},
    }  # fmt: skip
    validation = copy.deepcopy(record)
    validation["eval"]["split"], validation["tasks"]["pubmedqa"]["accuracy"] = "validation", 0.5
    path = tmp_path / "experiments" / "results" / "lora.json"
    path.write_text(json.dumps({**found, "runs": [validation, record]}))
    page = readme.markdown(results.stored())
    assert page.index("Before.") < page.index("2 points (1 finished, 1 failed)") < page.index("After.")
    for words in (
        "Rows: embedded (synthetic",
        "`model.lora.rank=8`, mean 0.8125 over seeds 0, 1",
        "[Every point](results/lora.md)",
    ):
        assert words in page
    assert "| 100.0 % |" in page and "50.0 %" not in page  # the test split, and not what the choice was made by
