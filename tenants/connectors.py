"""Which outside services a tenant may reach, and by which hosts: data of the program, never of a row.

A row only names a connector (models.TenantConnector). So whoever can write the database opens no host that
is not listed here. Names are exact: a wildcard would let in whatever its owner puts there next.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings

HTTPS = 443


@dataclass(frozen=True)
class Reach:
    """One host that a connector needs, and what for. The guest speaks TLS to it, and nothing else."""

    host: str
    why: str
    port: int = HTTPS

    @property
    def place(self) -> str:
        """As people write it: the port only where it is not the usual one."""
        return self.host if self.port == HTTPS else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Connector:
    """An outside service."""

    slug: str
    name: str
    about: str
    reaches: tuple[Reach, ...]


_TABLE = (
    Connector(
        "github",
        "GitHub",
        "Repositories over HTTPS, the API, single files and releases.",
        (
            Reach("github.com", "git over HTTPS: clone, fetch and push"),
            Reach("api.github.com", "the API: issues, pull requests, contents, searches"),
            Reach("codeload.github.com", "a repository as one archive"),
            Reach("raw.githubusercontent.com", "single files as they are"),
            # Not github-cloud.s3.amazonaws.com, to which LFS uploads: what is asked inside TLS decides there,
            # so it would open every bucket of that provider.
            Reach("github-cloud.githubusercontent.com", "fetching large files (git LFS)"),
            Reach("objects.githubusercontent.com", "files that belong to a release, the older place"),
            Reach("release-assets.githubusercontent.com", "files that belong to a release"),
            Reach("uploads.github.com", "adding a file to a release, through the API"),
        ),
    ),
    Connector(
        "gitlab",
        "GitLab.com",
        "Repositories over HTTPS, the API, and files.",
        (Reach("gitlab.com", "git over HTTPS, the API and files: all under one name"),),
    ),
    Connector(
        "slack",
        "Slack",
        "Messages to and from a workspace.",
        (
            Reach("slack.com", "the API"),
            Reach("files.slack.com", "files that people share"),
        ),
    ),
)
CONNECTORS: Mapping[str, Connector] = {connector.slug: connector for connector in _TABLE}

PILOT = frozenset({"github"})
"""What may be allowed and enabled while the pilot's guardrail stands (DESIGN, rule 7)."""


def barred(slug: str) -> bool:
    """Whether the pilot's guardrail keeps ``slug`` shut, by the word of this process's own setting.

    Asked again by the worker that renders the proxy's rules: a row alone opens nothing.
    """
    return settings.PORTAL_PILOT and slug not in PILOT


def open_connectors() -> list[str]:
    """The slugs that the guardrail lets through now."""
    return [slug for slug in CONNECTORS if not barred(slug)]
