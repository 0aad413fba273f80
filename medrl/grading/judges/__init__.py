"""Who grades free text: one file each, and what asks a judge."""
