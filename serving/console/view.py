"""What every page is given: the service, who looks, and in which language."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from twonines.errors import SettingsError
from twonines.serving.console.texts import Words
from twonines.serving.console.works import Works
from twonines.serving.people.roles import Person, Role
from twonines.serving.service import Service


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts behind all pages, one for the process."""

    service: Service
    works: Works

    def folder(self, name: str) -> Path:
        """A folder below the data directory; made where it is missing.

        Raises:
            SettingsError: the service stores nothing.
        """
        root = self.service.settings.data_dir
        if root is None:
            raise SettingsError("data_dir: must be given for this page, got none")
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class View:
    """One open page."""

    desk: Desk
    request: Request
    person: Person
    t: Words

    @classmethod
    def of(cls, desk: Desk, request: Request) -> "View":
        """Who asks, and in which language."""
        words = Words.of_browser(request.cookies, request.headers)
        return cls(desk, request, request.state.person, words)

    @property
    def is_local(self) -> bool:
        """Whether nobody has to say who they are."""
        return self.person.kind == "local"

    def may(self, role: Role) -> bool:
        """Whether the person has at least this role."""
        return self.person.role.covers(role)
