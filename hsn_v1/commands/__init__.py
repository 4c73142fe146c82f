"""The command line ``hsn-v1 COMMAND``: one module for each command."""
