"""From raw text to a vocabulary and a token store: all cores, bounded memory, safe to kill."""
