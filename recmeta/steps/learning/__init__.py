"""From tasks to a champion."""
