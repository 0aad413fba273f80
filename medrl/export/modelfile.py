"""Ollama's description of a model: the GGUF file, the chat template in Ollama's language, and the decoding that was measured."""

from __future__ import annotations

from pathlib import Path

from medrl.config.schema import Run
from medrl.errors import UserError
from medrl.export.asked_again import Questions
from medrl.models import loading
from medrl.models.chat_templates import rendered

SYSTEM, PROMPT, RESPONSE = "{{ .System }}", "{{ .Prompt }}", "{{ .Response }}"


def write(path: Path, file: str, source: Path, run: Run, questions: Questions) -> None:
    """Write a ``Modelfile`` for a GGUF file beside it, with the chat template of the tokenizer in ``source`` and the run's
    context and longest answer. The system message of the questions, where all have the same, becomes the model's own: it was
    trained and measured with it. Raises `UserError` where the template cannot be said in Ollama's language.
    """
    from transformers import AutoTokenizer

    lines = [
        f"FROM ./{file}",
        f'TEMPLATE """{template(source)}"""',
        f'PARAMETER stop "{AutoTokenizer.from_pretrained(source).eos_token}"',
        f"PARAMETER temperature {run.eval.temperature:g}",
        f"PARAMETER top_p {run.eval.top_p:g}",
        "PARAMETER top_k 0",  # Ollama's own defaults draw from 40 tokens and punish repetition
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {run.model.context_tokens}",
        f"PARAMETER num_predict {run.eval.max_new_tokens}",
    ]
    if system := _system(questions):
        lines.append(f'SYSTEM """{system}"""')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _system(questions: Questions) -> str:
    first = {
        message["content"] if message["role"] == "system" else ""
        for lines in questions.lines.values()
        for line in lines.values()
        for message in line.get("prompt", ())[:1]
    }
    return first.pop() if len(first) == 1 else ""


def template(source: Path) -> str:
    """A chat template of transformers in Ollama's language, read off what it makes of a conversation of placeholders. Raises
    `UserError` where its turns do not simply follow each other.
    """
    from transformers import AutoTokenizer

    with loading.explained(str(source)):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    asked = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
    again = [*asked, {"role": "assistant", "content": RESPONSE}, {"role": "user", "content": PROMPT}]

    before, _, rest = rendered(tokenizer, asked, prompt=True).partition(SYSTEM)
    first, _, answer = rest.partition(PROMPT)
    end = rendered(tokenizer, again[:3], prompt=False).partition(RESPONSE)[2]
    between = rendered(tokenizer, again, prompt=False).partition(RESPONSE)[2].partition(PROMPT)[0]
    turn = between.removeprefix(end)
    if not (between.startswith(end) and turn and first.endswith(turn)):
        raise UserError("The chat template cannot be said in Ollama's language; write formats=merged.")
    system = f"{{{{ if .System }}}}{before}{SYSTEM}{first.removesuffix(turn)}{{{{ end }}}}"
    return f"{system}{turn}{PROMPT}{answer}{RESPONSE}{end}"
