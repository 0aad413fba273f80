"""Tables that stand in the documentation are those of the results beside them."""

import json
from pathlib import Path

import pytest

from medrl import chain

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
TABLES = sorted((EXPERIMENTS / "results").glob("chain-*.json"))


def test_there_are_results():
    assert [path.stem for path in TABLES] == ["chain-algorithms", "chain-medicalgpt"]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_table_in_the_readme_is_that_of_the_results(path):
    stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    table = chain.markdown(stages)
    assert table.count("\n") > len(stages) and table in (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for metrics in stages.values():
        assert metrics["synthetic"] == ("synthetic twins" in metrics["source"])
