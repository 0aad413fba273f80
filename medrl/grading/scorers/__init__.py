"""Papers' own gradings, reported beside ours: one file each."""
