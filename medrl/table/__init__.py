"""``python -m medrl.table``: published and measured numbers side by side, with what each is worth."""
