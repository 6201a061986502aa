"""What tests of numbers share with those of learning."""

from tests.learning.conftest import study

__all__ = ["study"]
