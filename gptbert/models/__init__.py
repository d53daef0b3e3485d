"""The equations of BERT, GPT and GPT-2; nothing here knows of tasks, meshes or files.

Shape letters, used in every docstring of the package:

| letter | axis |
| --- | --- |
| B | batch: examples of one optimizer step, over all devices |
| R, T | rows of a packed batch, positions in a row |
| N, M | slots of a row: how many examples, how many masked tokens it can hold |
| D | width of the model (hidden size) |
| H, K | attention heads, width of one head (D = H K) |
| F | inner width of the MLP |
| V, P | vocabulary entries, positions a model knows |
| C | classes (1 for a score) |
| E, L | examples of a data set, layers |

A batch is *packed*: several examples share a row. `segments` [R,T] numbers the examples of the
batch from 1 (0 is empty space), `positions` restart at 0 in each, and attention never leaves a
segment, so that an example computes what it would compute alone.
"""
