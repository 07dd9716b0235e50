"""The normalisations of STPN: their names, their numbers in the loops, and what is added to a norm."""

PRE, POST = 1, 2
NORMALIZATIONS = {"pre": PRE, "post": POST, None: 0}
NORM_OFFSET = 1e-16  # as in the published implementation
