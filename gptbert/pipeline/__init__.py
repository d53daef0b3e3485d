"""`Example` -> `Features` -> `Batch`: input transforms, packing, and the plan of a run."""
