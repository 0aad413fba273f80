"""The schema of the configuration and the page made of it: true of the dataclasses, of every YAML file, and of this checkout."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from omegaconf import OmegaConf

from medrl.config import json_schema, options, reference

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = json_schema.schema()


def mistakes(values, group=None):
    part = SCHEMA | ({"$ref": f"#/$defs/{json_schema.key(group)}"} if group else {})
    return [error.message for error in jsonschema.Draft202012Validator(part).iter_errors(values)]


def content(path):
    return OmegaConf.to_container(OmegaConf.load(path)) or {}


def test_the_page_is_what_the_command_writes():
    assert (ROOT / reference.PAGE).read_text(encoding="utf-8") == reference.page(), "stale: python -m medrl.config.reference"


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    every = [cls for classes in json_schema.classes().values() for cls in classes.values()]
    assert len({cls.__name__ for cls in every}) == len(set(every))  # a definition is called after its class


def test_every_option_says_what_it_means():
    seen = {
        (name, field): "description" in one
        for name, definition in SCHEMA["$defs"].items()
        for field, one in definition.get("properties", {}).items()
        if field not in reference.HIDDEN
    }
    assert len(seen) > 200 and not [place for place, said in seen.items() if not said]


@pytest.mark.parametrize("group", [*json_schema.classes()])
def test_every_option_s_file_is_valid(group):
    found = {option: content(options.option_file(group, option)) for option in options.group_options(group)}
    for values in found.values():
        values.pop("tuned", None)  # model=tiny's, which is taken out before anything is built
    assert found and not {option: said for option, values in found.items() if (said := mistakes(values, group))}


def test_every_paper_and_study_is_valid():
    found = {path: content(path) for group in options.NAMED for path in (ROOT / "experiments" / group).glob("*.yaml")}
    for values in found.values():
        values.pop("hydra", None)
    assert len(found) > 10 and not {path.stem: said for path, values in found.items() if (said := mistakes(values))}


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("algo", {"_target_": "medrl.algos.grpo.GRPO", "lerning_rate": 1e-6}),
        ("algo", {"learning_rate": 0}),
        ("algo", {"loss_type": "gppo"}),
        ("hardware", {"gpus": 1.5}),
        ("hardware", {"gpus": "two"}),
        ("reward_set", {"rewards": {"one": {"_target_": "medrl.rewards.nowhere.Nothing"}}}),
        (None, {"seed": -1}),
        (None, {"model": {"lora": {"rank": 0}}}),
        (None, {"published": [{"task": ""}]}),
    ],
)
def test_a_mistake_is_seen(group, values):
    assert mistakes(values, group)


def test_what_is_filled_in_later_is_none():
    assert not mistakes({"max_new_tokens": "${model.max_new_tokens}"}, "eval")
    assert not mistakes({"precision": "auto"}, "hardware")


def test_the_command_writes_a_schema_for_each_group(tmp_path):
    command = [sys.executable, "-m", "medrl.config.json_schema"]
    done = subprocess.run([*command, str(tmp_path / "schema")], cwd=ROOT, capture_output=True, text=True, check=True)
    settings = json.loads(done.stdout)["yaml.schemas"]
    assert {Path(path).name for path in settings} == {path.name for path in (tmp_path / "schema").iterdir()}
    assert json.loads((tmp_path / "schema" / "model-lora.json").read_text())["$ref"] == "medrl.json#/$defs/model-lora"
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (
        told.returncode == 1 and told.stderr == "medrl: python -m medrl.config.json_schema FOLDER writes the schemas to FOLDER.\n"
    )
