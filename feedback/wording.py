"""What the service says of a verdict, in the same words wherever it is read."""

LABEL_MAP = "p_fake: 1 means fake"
