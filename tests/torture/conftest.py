import pytest

from tests.torture.killer import ended, start


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """What the jobs read, made in a process of its own: no torch runs in this one."""
    folder = tmp_path_factory.mktemp("torture") / "inputs"
    ended(start("make", folder, folder), folder)
    return folder
