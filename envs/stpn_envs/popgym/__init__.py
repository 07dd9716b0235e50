"""Environments of POPGym (Morad et al., ICLR 2023), on whole arrays; a seed plays the episodes it plays there."""
