"""For admins: accounts, their roles, and their keys."""

from typing import Any

from nicegui import ui

from feedback.access import Role
from feedback.console import PATH
from feedback.console.account import KEYS, key_table
from feedback.console.layout import View, page, reload_soon
from feedback.console.parts import Form, button, choice, empty, facts, field, link, moment, pages, table, tag
from feedback.service import Service

PAGE = 50
ROLES = {role.name: role.name.capitalize() for role in Role if role is not Role.anonymous}


def add(service: Service) -> None:
    """Add both pages."""

    @page(service, "/users", "Users")
    async def users(view: View) -> None:
        given = view.request.query_params
        before, named, sources = view.id("before"), given.get("named", "").strip()[:100], given.get("sources") == "1"
        found = await view.ask(service.users_page, before, PAGE, named, sources)
        tag("h1", "Users")
        _list(found, before, named, sources)
        _create(service, view)
        quality = await view.ask(service.quality)
        with tag("section", "", "card"):
            tag("h2", "Reviewers")
            if not quality:
                empty("Nobody has answered a case yet.", "How well reviewers agree with known cases and with each other will be listed here.")
            else:
                table("Reviewers", ["Name", "Answers", "Known cases right", "Agreement", "Seconds a case"], [_quality(one) for one in quality])

    @page(service, "/users/{user_id}", "User")
    async def user(view: View) -> None:
        found = await view.ask(service.account, view.request.path_params["user_id"])
        tag("h1", found["name"])
        with tag("div", "", "columns"):
            with tag("section", "", "card"):
                tag("h2", "Account")
                facts([("User name", found["user_name"]), ("E-mail", found["email"]), ("Since", moment(found["created_at"])), ("State", _state(found))])
            _govern(service, view, found)
        await _keys(service, view, found["id"])


def _list(found: dict[str, Any], before: str, named: str, sources: bool) -> None:
    with tag("form", "", "card filters", method="get", action=f"{PATH}/users", aria_label="Filters"):
        field("Name or e-mail", "named", value=named, maxlength=100)
        choice("Whose", "sources", {"": "People's", "1": "Sources' too"}, "1" if sources else "")
        with tag("div", "", "row"):
            button("Filter", classes="button-main")
    query = {name: value for name, value in (("named", named), ("sources", "1" if sources else "")) if value}
    if found["users"]:
        heads = ["Name", "User name", "E-mail", "Role", "State", "Since"]
        table("Accounts, the newest first", heads, [_row(one) for one in found["users"]])
    elif before:
        empty("Nothing older.", "The list ends before this page.")
    else:
        empty("No account fits.", "Take the filter away to see all.", f"{PATH}/users", "Show all")
    pages(f"{PATH}/users", query, before, found["next"])


def _row(one: dict[str, Any]) -> list[Any]:
    return [
        lambda: link(one["name"], f"{PATH}/users/{one['id']}"),
        one["user_name"],
        one["email"],
        ROLES.get(one["role"], one["role"]),
        _state(one),
        moment(one["created_at"]),
    ]


def _state(one: dict[str, Any]) -> str:
    return "disabled" if one["disabled"] else f"locked until {moment(one['locked_until'])}" if one["locked_until"] else "active"


def _quality(one: dict[str, Any]) -> list[Any]:
    def share(figure: dict[str, Any]) -> str:
        return f"{figure['right']} of {figure['n']} [{figure['low']:.2f}, {figure['high']:.2f}]" if figure["n"] else "–"

    return [one["reviewer"], one["reviews"], share(one["gold"]), share(one["agreement"]), f"{one['seconds']:.1f}" if one["seconds"] is not None else "–"]


def _create(service: Service, view: View) -> None:
    async def make(given: dict[str, str]) -> None:
        wanted = [given.get(name, "") for name in ("name", "email", "user_name", "password", "role")]
        if await view.do(service.create_user, *wanted, done="The account was made.") is not None:
            reload_soon()

    with tag("details", "", "card"):
        tag("summary", "Make an account")
        with Form(make):
            field("Name", "name", required=True, maxlength=100, autocomplete="off")
            field("E-mail", "email", "email", required=True, autocomplete="off")
            field("User name", "user_name", required=True, autocomplete="off")
            field(
                "Password", "password", "password", "At least 10 characters; its owner can change it.", required=True, minlength=10, autocomplete="new-password"
            )
            choice("Role", "role", ROLES, "reviewer")
            button("Make the account", classes="button-main")


def _govern(service: Service, view: View, found: dict[str, Any]) -> None:
    async def do(**change: Any) -> None:
        if await view.do(service.govern, found["id"], **change) is not None:
            ui.navigate.reload()

    async def new_password(given: dict[str, str]) -> None:
        await view.do(
            service.change_password, given.get("password", ""), user_id=found["id"], done="The password was set; every session of the account has ended."
        )

    with tag("section", "", "card"):
        tag("h2", "Govern")
        with Form(lambda given: do(role=given.get("role", "")), "form form-row"):
            choice("Role", "role", ROLES, found["role"])
            button("Save role")
        with tag("div", "", "row"):
            if found["disabled"]:
                button("Enable", lambda: do(disabled=False))
            else:
                button("Disable", lambda: do(disabled=True), "button-danger")
            if found["locked_until"]:
                button("Unlock", lambda: do(unlock=True))
        if found["id"] != view.session.actor.user_id:
            with tag("details"):
                tag("summary", "Set a password")
                with Form(new_password):
                    field("New password", "password", "password", required=True, minlength=10, autocomplete="new-password")
                    button("Set password")


async def _keys(service: Service, view: View, user_id: str) -> None:
    async def revoke(key_id: str) -> None:
        if await view.do(service.revoke_key, key_id, done="The key has ended.") is not None:
            reload_soon()

    with tag("section", "", "card"):
        tag("h2", "API keys")
        before = view.id("before")
        keys = await view.ask(service.keys_page, user_id, before, KEYS)
        if keys["keys"] or before:
            key_table(keys, before, f"{PATH}/users/{user_id}", revoke)
        else:
            tag("p", "This account has no API key.", "muted")
