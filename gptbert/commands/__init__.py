"""One file a sub-command: flags in, one call, nothing else. JAX is imported when one runs."""
