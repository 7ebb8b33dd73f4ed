"""My account: who I am, my password, my API keys, where verdicts are sent."""

from typing import Any

from nicegui import ui

from feedback.console import PATH
from feedback.console.layout import View, page
from feedback.console.parts import Form, Tag, button, empty, facts, field, moment, pages, table, tag
from feedback.service import Service

KEYS = 25  # a page
SHOW_SECRET = "Copy it now: it is shown this once."


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/account", "My account")
    async def account(view: View) -> None:
        mine = await view.ask(service.account)
        tag("h1", "My account")
        with tag("div", "", "columns"):
            with tag("section", "", "card"):
                tag("h2", "About me")
                facts(
                    [
                        ("Name", mine["name"]),
                        ("E-mail", mine["email"]),
                        ("User name", mine["user_name"]),
                        ("Role", mine["role"]),
                        ("Since", moment(mine["created_at"])),
                    ]
                )
            _password(service, view)
        await _keys(service, view)
        await _webhooks(service, view)


def _password(service: Service, view: View) -> None:
    async def change(given: dict[str, str]) -> None:
        if await view.do(service.change_password, given.get("password", ""), given.get("old", "")) is not None:
            ui.navigate.to("/log-in")

    with tag("section", "", "card"):
        tag("h2", "Password")
        with Form(change):
            field("Password of now", "old", "password", autocomplete="current-password", required=True)
            field(
                "New password",
                "password",
                "password",
                "At least 10 characters. You log in anew with it.",
                autocomplete="new-password",
                required=True,
                minlength=10,
            )
            button("Change password")


async def _keys(service: Service, view: View) -> None:
    async def make(given: dict[str, str]) -> None:
        made = await view.do(service.create_key, given.get("name", ""), done="The key was made.")
        if made is not None:
            secret(shown, "Your new key", made["key"])
            await listed("")  # where the new one is

    async def revoke(key_id: str) -> None:
        if await view.do(service.revoke_key, key_id, done="The key has ended.") is not None:
            await listed(asked)

    async def listed(before: str) -> None:
        found = await view.do(service.keys_page, "", before, KEYS)
        rows_at.clear()
        with rows_at:
            if not found or not (found["keys"] or before):
                empty("You have no API key.", "A program that sends media needs one: `Authorization: Bearer vigil_…`.")
                return
            key_table(found, before, f"{PATH}/account", revoke)

    asked = view.id("before")
    with tag("section", "", "card"):
        tag("h2", "API keys")
        rows_at, shown = tag("div"), tag("div", "", "", role="status")
        with Form(make, "form form-row"):
            field("Name of a new key", "name", hint="What will use it.", required=True, maxlength=100)
            button("Make a key", classes="button-main")
        await listed(asked)


def key_table(found: dict[str, Any], before: str, path: str, revoke: Any) -> None:
    """A page of keys with a way to end each, and the ways to the other pages of this list, which is shown at `path`."""

    def end(key: dict[str, Any]) -> Any:
        if key["revoked_at"]:
            return f"ended {moment(key['revoked_at'])}"
        return lambda: button("Revoke", lambda: revoke(key["id"]), aria_label=f"Revoke the key {key['name']}")

    rows = [
        [key["name"], lambda key=key: tag("code", f"{key['prefix']}…"), moment(key["created_at"]), moment(key["last_used_at"]), end(key)]
        for key in found["keys"]
    ]
    if rows:
        table("API keys, the newest first", ["Name", "Begins with", "Made", "Last used", "End"], rows)
    else:
        empty("Nothing older.", "The list ends before this page.")
    pages(path, {}, before, found["next"])


def secret(place: Tag, title: str, text: str) -> None:
    """Show a secret once."""
    place.clear()
    with place:
        with tag("div", "", "notice secret"):
            tag("p", f"{title}. {SHOW_SECRET}")
            tag("code", text, "secret-text")
            button("Hide", place.clear)


async def _webhooks(service: Service, view: View) -> None:
    async def make(given: dict[str, str]) -> None:
        made = await view.do(service.create_webhook, given.get("url", "").strip(), done="Verdicts will be sent there.")
        if made is not None:
            if made.get("secret"):
                secret(shown, "The secret that signs what is sent", made["secret"])
            await listed()

    async def end(webhook_id: str) -> None:
        if await view.do(service.delete_webhook, webhook_id, done="Nothing more is sent there.") is not None:
            await listed()

    async def listed() -> None:
        found = await view.do(service.webhooks_list)
        rows_at.clear()
        with rows_at:
            if not found or found is True:
                empty("Verdicts are sent nowhere.", "Finished verdicts can be sent to an address that the settings allow, signed.")
                return
            rows = [
                [one["url"], moment(one.get("created_at")), lambda one=one: button("End", lambda: end(one["id"]), aria_label=f"End the webhook {one['url']}")]
                for one in found
            ]
            table("Webhooks", ["Address", "Since", "End"], rows)

    with tag("section", "", "card"):
        tag("h2", "Webhooks")
        rows_at, shown = tag("div"), tag("div", "", "", role="status")
        with Form(make, "form form-row"):
            field("Address", "url", "url", "An https address on a host of the settings' list.", required=True, maxlength=2000)
            button("Add")
        await listed()
