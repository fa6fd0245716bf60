"""The record: protocols of others on public data, their authors' released code, and one page."""
