"""``metrics.json`` of texts that a model might have written before and after training, graded as an evaluation grades them."""

import json
from pathlib import Path
from typing import Any

from medrl.config.build import check
from medrl.evaluation import evaluate, metrics_json
from medrl.files import write_jsonl
from medrl.models.generation import Generated

SHAPED = "<reasoning>\nBecause.\n</reasoning>\n<answer>\n{}\n</answer>\n"


def summarised(compose: Any, folder: Path, golds: list[str], before: list[str], after: list[str], *words: str) -> dict[str, Any]:
    """The one task of a run whose questions have these golds.

    Args:
        compose: The fixture.
        folder: An empty one.
        golds: One a question.
        before: One text a question; ``{}`` of `SHAPED` is filled in by the caller.
        after: The same after training.
        words: Further overrides.
    """
    test = folder / "test.jsonl"
    test.write_text("".join(json.dumps({"id": n, "question": f"Question {n}?", "answer": g}) + "\n" for n, g in enumerate(golds)))
    named = [f"data_mix.tasks.rows.{split}={test}" for split in ("train", "test")]
    run = check(compose(["data_mix=rows", *named, "hardware=cpu", "data_mix.decontaminate=none", *words]))
    task, examples = run.data_mix.tasks["rows"], evaluate.held_out(run, "rows")
    asking = [(example, 0) for example in examples]
    (folder / "eval").mkdir()
    for which, texts in (("base", before), ("trained", after)):
        made = {at: Generated(text, len(text) // 4, True) for at, text in enumerate(texts)}
        lines = evaluate._graded(task, asking, made)
        file = evaluate.result_files(run, which)["rows"]  # type: ignore[arg-type]
        write_jsonl(folder / "eval" / file, (lines[at] for at in range(len(texts))))
    found: dict[str, Any] = metrics_json.summarise(run, folder / "eval")["tasks"]
    return found


def constants(compose: Any, folder: Path) -> dict[str, Any]:
    """500 bare words "no" before, 500 times "yes" in the asked shape after; 55 % of the golds are yes."""
    golds = ["yes"] * 275 + ["no"] * 170 + ["maybe"] * 55
    words = ("data_mix.tasks.rows.answer_type=decision", "data_mix.tasks.rows.decisions=[yes,no,maybe]")
    return summarised(compose, folder, golds, ["no"] * 500, [SHAPED.format("yes")] * 500, *words)


def numbers_lost(compose: Any, folder: Path) -> dict[str, Any]:
    """1,000 sums: before 230 are right and none in the asked shape, after 38 are right and all are in it."""
    golds = [str(17 + n) for n in range(1000)]
    before = [f"First I add them. Then I check. So the total is {17 + n + (n >= 230)}." for n in range(1000)]
    after = [SHAPED.format(17 + n if n < 38 else 10) for n in range(1000)]
    return summarised(compose, folder, golds, before, after, "data_mix.tasks.rows.answer_type=number")
