"""Looking after a workspace: drift, old files, users to be forgotten."""
