"""For analysts: a workspace and its champion in a few words, with data frames and pictures.

    import recmeta
    workspace = recmeta.open_workspace("workspace")

Everything here asks the steps and the core; nothing is computed a second way.
"""
