"""The measured claims of the README. Each module is one benchmark and a command of its own."""
