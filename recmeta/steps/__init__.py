"""The steps of the pipeline: one a file, `run(config, workspace, ...)` returns its manifest.

data       logs become interactions, features and tasks
learning   tasks become a model, a report and a registered version
serving    a model and new users become ranked lists, reasons and questions
upkeep     what keeps a workspace small, watched and free of users who want to be forgotten
parts      what only steps share
"""
