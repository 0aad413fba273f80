"""The yardstick of `overhead.py`: the work of a short GRPO run, written by hand on plain TRL and nothing of medrl.

    python benchmarks/plain_trl.py MODEL ROWS.jsonl OUT STEPS

A row is ``{"prompt": [messages], "gold": ..., "numeric": ...}``. The losses go to ``OUT/losses.json``.
"""

import json
import re
import sys
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")


def texts(completions):
    """The words of TRL's conversational completions."""
    return [messages[0]["content"] for messages in completions]


def answer_of(text):
    """What stands between the answer tags, once the reasoning has closed."""
    if text.count("</reasoning>") > 1 or ("<reasoning>" in text and "</reasoning>" not in text):
        return ""
    rest = text.split("</reasoning>", 1)[-1]
    if rest.count("<answer>") != 1 or rest.count("</answer>") != 1:
        return ""
    found = re.search(r"<answer>(.*?)</answer>", rest, re.DOTALL)
    return found[1].strip() if found else ""


def xml_count(completions, **_):
    """A quarter a tag in its place, less what follows the last one."""
    scores = []
    for text in texts(completions):
        score = 0.25 * (text.startswith("<reasoning>\n") and text.count("<reasoning>\n") == 1)
        score += 0.25 * (text.count("\n</reasoning>\n") == 1) + 0.25 * (text.count("\n<answer>\n") == 1)
        if text.count("\n</answer>") == 1:
            score += 0.25 - 0.002 * len(text.split("\n</answer>")[1].removeprefix("\n"))
        scores.append(max(score, -1.0))
    return scores


def soft_format(completions, **_):
    """Reasoning, then answer, each tag once."""
    shape = re.compile(r"\s*<reasoning>(?=.*?\S.*?</reasoning>).+?</reasoning>\s*<answer>\s*\S.*?</answer>\s*", re.DOTALL)
    return [float(all(text.count(tag) == 1 for tag in TAGS) and bool(shape.fullmatch(text))) for text in texts(completions)]


def strict_format(completions, **_):
    """The shape newline for newline."""
    shape = re.compile(r"<reasoning>\n[^<]*[^<\s][^<]*\n</reasoning>\n<answer>\n[^<]*[^<\s][^<]*\n</answer>\n?")
    return [float(bool(shape.fullmatch(text))) for text in texts(completions)]


def integer_answer(completions, numeric, **_):
    """Digits alone, where a number is asked for."""
    return [float(answer_of(t).isdigit()) if wanted else None for t, wanted in zip(texts(completions), numeric, strict=True)]


def correctness(completions, gold, numeric, **_):
    """The gold as the answer."""
    scores = []
    for text, right, wanted in zip(texts(completions), gold, numeric, strict=True):
        answer = answer_of(text)
        same = answer.replace(",", "") == right if wanted else answer.strip("().").lower() == right.lower()
        scores.append(float(same))
    return scores


def main():
    """Train and write the losses."""
    model, rows, out, steps = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    dataset = Dataset.from_list([json.loads(line) for line in Path(rows).read_text().splitlines()])
    config = GRPOConfig(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=64,
        learning_rate=1.5e-4,
        lr_scheduler_type="constant",
        adam_beta2=0.99,
        weight_decay=0.1,
        max_grad_norm=1.0,
        num_generations=8,
        max_completion_length=96,
        beta=0.04,
        loss_type="grpo",
        scale_rewards="group",
        reward_weights=[0.5, 0.5, 0.5, 0.5, 2.0],
        save_steps=10,
        save_total_limit=2,
        logging_steps=1,
        log_completions=True,
        num_completions_to_print=0,
        report_to=[],
        seed=0,
        data_seed=0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        reward_funcs=[xml_count, soft_format, strict_format, integer_answer, correctness],
        args=config,
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
    )
    trainer.train()
    trainer.save_model(str(out / "model"))
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    (out / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
