"""The one package list."""

import pytest

from deploy.portalctl import packages

TEXT = "# head\n[run]\ngcc # to compile\n\nlibvirt-dev\n[test]\nchromium\n"


def test_sections_are_read_without_comments() -> None:
    assert packages.listed(TEXT, ["run"]) == ["gcc", "libvirt-dev"]
    assert packages.listed(TEXT, ["run", "test"]) == ["gcc", "libvirt-dev", "chromium"]


def test_a_misspelt_section_is_an_error() -> None:
    with pytest.raises(KeyError):
        packages.listed(TEXT, ["tests"])


def test_the_real_list_names_each_package_once() -> None:
    names = packages.listed(packages.LIST.read_text(), ["run", "test"])
    assert len(names) == len(set(names))
    assert {"libvirt-daemon-system", "python3-venv", "redis-server", "postgresql"} <= set(names)


def test_only_what_is_not_installed_is_missing() -> None:
    assert packages.missing(["dpkg", "no-such-package-anywhere"]) == ["no-such-package-anywhere"]
