"""What others released, run as it is on our tasks: a checkout outside the tree, and an adaptor for
each project, a script that runs in it and imports nothing of ours."""
