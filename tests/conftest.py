"""No property test has a deadline: others work on the machine too, and a slow example is no wrong one."""

from hypothesis import settings

settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")
