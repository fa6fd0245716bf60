"""How far predictions of a user's query rows are off."""
