"""Weights in and out: Hugging Face folders, and our own checkpoints.

`huggingface.py` reads a folder (`huggingface_config.py` its shape, `huggingface_names.py` what its
tensors are called, with the tables of `huggingface_bert.py` and `huggingface_gpt.py`,
`safetensors_files.py` the bytes), `export.py` writes one with its model card; `checkpoints.py`
saves and restores runs, `run_folder.py` says what model a run has, `folders.py` which folders are
runs; `sources.py` gives what a training starts from, and `pretrained.py` is what `gptbert.load`
gives. Outside of a model parameters are one flat dictionary from path to float32 array.
"""
