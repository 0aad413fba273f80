"""Commands as processes: one job, chains of runs, multiruns, and the locks and GPUs that jobs claim."""
