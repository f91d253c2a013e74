"""What every test here may rely on."""

from hypothesis import settings

settings.register_profile("ossia", deadline=None)  # a busy machine is no failure
settings.load_profile("ossia")
