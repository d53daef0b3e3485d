"""One file a task family: which data it reads, its head and objective, its metrics."""
