"""``python -m medrl.serve``: a run or a model behind OpenAI's HTTP interface, asked as it was measured."""
