"""The first stage: pictures to boxes of people (paper, section 3.1)."""
