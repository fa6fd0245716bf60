"""One command a file, found by its name; a folder is a group of commands."""
