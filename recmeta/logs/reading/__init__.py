"""Reading: files of any format become rows as they were written."""
