"""The library: data sets, models and evaluations in memory, as `import recmeta` gives them.

One idea a file; `recmeta/__init__.py` lists the names. What is done here the steps of the pipeline
do, too, by the same functions: there is no second way to check a log, to train or to measure.
"""
