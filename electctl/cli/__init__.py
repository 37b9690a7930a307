"""The command line. docs/cli-conventions.md says how a command is written."""
