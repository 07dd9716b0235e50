"""STPN of any size on CPUs: the lanes of a vector are columns of the weights."""
