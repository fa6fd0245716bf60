"""A log of tens of millions of rows from files to lists: what each step takes."""
