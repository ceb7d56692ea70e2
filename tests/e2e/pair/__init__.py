"""End-to-end tests between two Home Assistants."""

import pytest

pytest.register_assert_rewrite("tests.e2e.pair.checks")
