"""The example of an app in a real browser: Clerk's own scripts, PostgREST, and the deployed functions."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable

import httpx
import psycopg
import pytest
from playwright.sync_api import expect
from psycopg import sql

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.standin.frontend.visits import CODE
from clerk_supabase_cli.standin.instance.webhooks import DeliveryFaults
from tests.browser.app import PASSWORD, Person
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually

SIGN_UPS = 100
_WIDTH_OF_PICTURE = """
    address => new Promise(done => {
        const picture = new Image()
        picture.onload = () => done(picture.naturalWidth)
        picture.onerror = () => done(0)
        picture.src = address
    })
"""
# One pixel.
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def id_of(stack: LocalStack, someone: Person) -> str:
    """The id of a user who signed up."""
    assert stack.frontend.pages is not None
    return str(stack.frontend.pages.people.by_address(someone.address)["id"])


def known(stack: LocalStack, someone: Person) -> str:
    """Makes a user, as Clerk's dashboard does, and returns the id; such a user has no password."""
    first, _, last = someone.name.partition(" ")
    user = stack.instance.create_user(email_address=someone.address, first_name=first, last_name=last)
    return str(user["id"])


def wait_until(stack: LocalStack, user_id: str, verdict: str) -> None:
    """Returns once the webhook about a verdict, such as a ban, has been applied."""
    query = sql.SQL("select {} from clerk.users where clerk_id = %s").format(sql.Identifier(verdict))
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        eventually(lambda: database.execute(query, [user_id]).fetchone(), lambda found: found == (True,))


def upload_avatar(someone: Person) -> None:
    """Uploads a picture on the profile page, after a file that is none."""
    someone.page.get_by_role("link", name="People").click()
    someone.page.get_by_role("link", name="Your profile").click()
    field = someone.page.get_by_label("Your picture")
    field.set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    expect(someone.page.get_by_text("This is no picture")).to_be_visible()
    # Chromium writes the status of Storage's answer into the console.
    someone.troubles[:] = [each for each in someone.troubles if "status of 400" not in each]
    field.set_input_files({"name": "picture.png", "mimeType": "image/png", "buffer": PICTURE})
    expect_avatar(someone)


def expect_avatar(someone: Person) -> None:
    """Waits until the profile page shows an uploaded picture."""
    picture = someone.page.locator("article .avatar span")
    expect(picture).to_have_attribute("style", re.compile("/public/avatars/"))
    address = picture.evaluate("each => getComputedStyle(each).backgroundImage.slice(5, -2)")
    assert someone.page.evaluate(_WIDTH_OF_PICTURE, address) == 1


def reload_until(someone: Person, shows: Callable[[], bool]) -> None:
    """Opens the page again until it shows what a webhook has brought."""
    eventually(someone.page.reload, lambda _: shows(), seconds=60)


@pytest.mark.pictures
def test_two_people_sign_up_and_each_sees_only_their_own(stack: LocalStack, ada: Person, grace: Person) -> None:
    ada.sign_up()
    expect(ada.page.get_by_role("heading", name="To-dos of Ada Lovelace")).to_be_visible()
    [webhook] = [each for each in stack.instance.webhooks.messages if each.event["data"]["id"] == id_of(stack, ada)]
    assert webhook.state == "waiting"

    ada.page.get_by_label("New to-do").fill("Write it down")
    ada.page.get_by_role("button", name="Add").click()
    expect(ada.page.get_by_role("checkbox", name="Write it down")).to_be_visible()
    ada.page.reload()
    expect(ada.page.get_by_role("checkbox", name="Write it down")).to_be_visible()
    ada.take_picture("todos")
    upload_avatar(ada)

    grace.sign_up()
    expect(grace.page.get_by_text("There is no to-do yet.")).to_be_visible()
    grace.page.get_by_role("link", name="People").click()
    grace.page.get_by_role("link", name="Ada Lovelace").first.click()
    expect(grace.page.get_by_role("heading", name="Ada Lovelace")).to_be_visible()
    expect_avatar(grace)
    assert not grace.sees(ada.address)

    ada.sign_out()
    ada.open("/todos")
    expect(ada.page.get_by_label("Email address")).to_be_visible()


@pytest.mark.pictures
def test_the_role_decides_what_a_member_does_in_an_organization(stack: LocalStack, ada: Person, grace: Person) -> None:
    organization = stack.instance.create_organization("Example Labs", created_by=known(stack, ada))["id"]
    stack.instance.add_member(organization, known(stack, grace), role="org:member")
    form = grace.page.get_by_label("Title of a new document")

    ada.sign_in()
    # The webhooks about the organization may still be on their way: the page looks again by itself.
    ada.choose_organization("Example Labs")
    ada.page.get_by_label("Title of a new document").fill("A plan")
    ada.page.get_by_role("button", name="Add").click()
    expect(ada.page.get_by_text("A plan")).to_be_visible()

    grace.sign_in()
    grace.choose_organization("Example Labs")
    expect(grace.page.get_by_text("A plan")).to_be_visible()
    expect(grace.page.get_by_role("list").get_by_text("Ada Lovelace")).to_be_visible()
    expect(form).to_have_count(0)
    ada.page.reload()
    expect(ada.page.get_by_role("list").get_by_text("Grace Hopper")).to_be_visible()
    ada.take_picture("organization", dark=True)
    stack.instance.change_role(organization, id_of(stack, grace), "org:editor")
    reload_until(grace, lambda: form.count() == 1)
    expect(grace.page.get_by_role("button", name="Delete: A plan")).to_have_count(0)
    stack.instance.remove_member(organization, id_of(stack, grace))
    reload_until(grace, lambda: not grace.sees("A plan"))

    ada.page.get_by_role("button", name="Delete: A plan").click()
    expect(ada.page.get_by_text("There is no document.")).to_be_visible()

    ada.page.get_by_role("link", name="Reports").click()
    report = ada.page.get_by_label("Title of a new report")
    expect(ada.page.get_by_text("a new plan counts after a minute")).to_be_visible()
    stack.instance.entitle(organization, plan="team", features="reports")
    reload_until(ada, lambda: report.count() == 1)
    report.fill("Numbers of May")
    ada.page.get_by_role("button", name="Add").click()
    expect(ada.page.get_by_text("Numbers of May")).to_be_visible()
    ada.take_picture("reports")


@pytest.mark.pictures
def test_a_banned_user_is_told_so_while_the_token_still_lives(stack: LocalStack, grace: Person) -> None:
    user_id = known(stack, grace)
    grace.sign_in()
    expect(grace.page.get_by_role("heading", name="To-dos of Grace Hopper")).to_be_visible()
    # Clerk ends the session too, which its script notices while a page is open: this browser was closed.
    grace.page.goto("about:blank")
    stack.instance.ban_user(user_id)
    wait_until(stack, user_id, "banned")

    grace.open("/todos")
    expect(grace.page.get_by_role("heading", name="You have no access")).to_be_visible()
    grace.take_picture("no-access", dark=True, signed_in=False)
    grace.open("/sign-in")
    grace.identify()
    expect(grace.page.get_by_text("This account is banned.")).to_be_visible()
    # Clerk answers 401 and 403 to such a user, and Chromium writes each into the console.
    grace.troubles[:] = [each for each in grace.troubles if "status of 40" not in each]


def test_nobody_of_a_hundred_sees_an_empty_profile_at_the_first_request(stack: LocalStack, origin: str) -> None:
    """No webhook about these users ever arrives; the pages of the example ask in the same way."""
    assert stack.frontend.pages is not None
    people, empty = stack.frontend.pages.people, []
    usual, people.faults = people.faults, DeliveryFaults(lose=1.0)
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=60, headers={"origin": origin}) as client:
        for number in range(SIGN_UPS):
            row = client.post(
                stack.session_url, headers={"authorization": f"Bearer {signed_up(stack, client, number)}"}
            )
            empty += [row.text] if row.status_code != 200 or row.json()["first_name"] != f"Ada {number}" else []
    people.faults = usual
    assert empty == []


def signed_up(stack: LocalStack, client: httpx.Client, number: int) -> str:
    """The session token of a new user, from the same requests as clerk-js makes."""
    url = f"http://localhost:{stack.frontend.port}/v1/client/sign_ups"
    client.cookies.clear()
    entered = {
        "email_address": f"{number}.{secrets.token_hex(4)}@example.test",
        "password": PASSWORD,
        "first_name": f"Ada {number}",
        "last_name": "Lovelace",
    }
    attempt = client.post(url, data=entered).json()["response"]["id"]
    client.post(f"{url}/{attempt}/prepare_verification", data={"strategy": "email_code"})
    done = client.post(f"{url}/{attempt}/attempt_verification", data={"strategy": "email_code", "code": CODE}).json()
    return str(done["client"]["sessions"][0]["last_active_token"]["jwt"])
