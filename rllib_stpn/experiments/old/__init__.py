"""Names and values of earlier RLlib, translated to today's."""
