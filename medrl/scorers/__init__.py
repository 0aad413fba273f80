"""Other people's gradings, one file each: reported beside the strict grade, never instead of it."""
