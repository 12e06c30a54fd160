"""Servers on the codec, each with its client; they use only what `import fastframe` and its fronts offer."""
