"""Each file of experiments/paper beside what its source prints (cases/systems.yaml): done, or named as a deviation."""

from pathlib import Path

import pytest
import yaml
from test_papers import PAPERS, RUN, leaves, own_form, text_of

from medrl.models import from_run

TABLE = yaml.safe_load((Path(__file__).parent / "cases" / "systems.yaml").read_text(encoding="utf-8"))
LACKING = "no option"
AS_PUBLISHED = {"grpo_medical": ["hardware=t4"], "pangu_dxbench": ["model=qwen2_5_7b_instruct"]}
"""What a paper is run on beside its own form: no value that is tuned for the embedded model may stand in the place of its own."""


@pytest.fixture
def paper(compose, monkeypatch):
    """A paper's configuration by its name; the run that it may start from is one of a pretrained model."""
    monkeypatch.setitem(from_run.planned, Path(RUN), compose(["algo=sft", "model=qwen2_5_7b_instruct", "hardware=h100"]))
    return lambda name: compose([*own_form("paper", name), *AS_PUBLISHED.get(name, [])])


def found(tree, option):
    """The value of an option; a part of it that medrl does not have is `LACKING`."""
    for part in option.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return LACKING
        tree = tree[part]
    return tree


def faults(name, tree, table):
    """A sentence for each value that is neither done nor named, is named although it is done, or has no place in the table."""
    for option, (value, place, *words) in table.items():
        ours = found(tree, option)
        named = [line for line in tree["deviations"] if words and words[0] in line]
        if words and not named:
            yield f"{name}: {place} has {option}={value}, and no line of deviations has the words {words[0]!r}"
        if not words and place != "ours" and ours != value:
            yield f"{name}: {place} has {option}={value}, here it is {ours}; do so, or name it in deviations"
        if words and ours == value:
            yield f"{name}: {option} is {value} as {place} has it; take {named} out of deviations"
    for path in leaves(yaml.safe_load(text_of("paper", name))):
        option = ".".join(map(str, path))
        if path[0] != "defaults" and not any(f"{option}.".startswith(f"{known}.") for known in table):
            yield f"{name}: {option} is set and tests/cases/systems.yaml has no value of it; add what its source says, and where"


def test_the_table_has_every_paper():
    assert sorted(TABLE) == PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_each_value_of_a_paper_is_done_or_named(paper, name):
    assert "\n".join(faults(name, paper(name), TABLE[name])) == ""


def test_what_the_table_lacks_or_contradicts_is_one_sentence(paper):
    tree, table = paper("pangu_dxbench"), TABLE["pangu_dxbench"]
    without = {option: row for option, row in table.items() if option != "data_mix.tasks.dxbench.shuffle_candidates"}
    (said,) = faults("pangu_dxbench", tree, without)
    assert said.startswith(
        "pangu_dxbench: data_mix.tasks.dxbench.shuffle_candidates is set and tests/cases/systems.yaml has no value of it"
    )
    (said,) = faults("pangu_dxbench", tree, table | {"algo.rounds": [4, "S3"]})
    assert said.startswith("pangu_dxbench: S3 has algo.rounds=4, here it is 3;")
    (said,) = faults("pangu_dxbench", tree, table | {"algo.rounds": [4, "S3", "four rounds"]})
    assert "no line of deviations has the words 'four rounds'" in said
    (said,) = faults("pangu_dxbench", tree, table | {"algo.rounds": [3, "S3", "209 of 300"]})
    assert said.startswith("pangu_dxbench: algo.rounds is 3 as S3 has it; take")
