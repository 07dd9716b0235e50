"""Small STPN layers on CPUs: the lanes of a vector are samples of the batch."""
