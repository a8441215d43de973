"""The rule that part 1 led to: every image's class counts alike, and one standard error is enough."""

from experiments.heads.choosing import Rule

SHIPS = Rule("balanced-accuracy", "equal", 0.68)
