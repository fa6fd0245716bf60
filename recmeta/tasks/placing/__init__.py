"""The placing of rows in tasks, with numbers in place of ids, some users at a time."""
