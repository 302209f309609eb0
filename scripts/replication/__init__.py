"""The papers replayed on the tiny model: what is run, how it is measured, and the page that tells it."""
