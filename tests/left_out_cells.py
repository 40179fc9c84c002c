"""A plugin of pytest for notebooks: cells that need a download which is not on this machine are skipped, by name."""

import pytest

from shared.needed_files import missing, reason


def pytest_collection_modifyitems(items):
    for item in items:
        if name := missing(item.cell.metadata.get("tags", [])):
            item.add_marker(pytest.mark.skip(reason=reason(name)))
