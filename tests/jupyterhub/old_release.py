"""What does JupyterHub 1.5.1 do with its database?

Run by the interpreter of the old release, whose SQLAlchemy is 1.4:
`python -m tests.jupyterhub.old_release create URL`.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jupyterhub  # type: ignore[import-not-found]
import sqlalchemy
from jupyterhub import orm
from jupyterhub.oauth.provider import make_provider  # type: ignore[import-not-found]
from jupyterhub.utils import hash_token  # type: ignore[import-not-found]

from tests.jupyterhub import records
from tests.jupyterhub.records import EPOCH, EXPIRED, FAR_FUTURE, secret, user_name


def session_of(url: str) -> Any:
    """A session as the release opens it: it checks the revision and creates what is missing."""
    return orm.new_session_factory(url)()


def hashed(token: str) -> str:
    """The hash of a generated token, with a salt that is the same on every run."""
    return str(hash_token(token, rounds=1, salt=token[::-1][:16]))


def create(url: str) -> None:
    """Create the schema and fill it."""
    session = session_of(url)
    users = _users(session)
    services = _services(session)
    clients = _clients(session, users, services)
    _api_tokens(session, users, services)
    _oauth(session, users, clients)


def _users(session: Any) -> list[Any]:
    groups = [orm.Group(name=f"course-{number:02}") for number in range(records.GROUPS)]
    session.add_all(groups)
    users = []
    for number in range(records.USERS):
        user = orm.User(
            name=user_name(number),
            admin=number % 50 == 0,
            created=EPOCH + timedelta(minutes=number),
            last_activity=None if number % 7 == 0 else EPOCH + timedelta(days=1, seconds=number),
            cookie_id=secret("cookie", number),
            state={"started": number, "raw": b"\x00\xff"} if number % 5 == 0 else None,
            encrypted_auth_state=secret("auth", number).encode() if number % 4 == 0 else None,
        )
        user.groups = [groups[index % len(groups)] for index in range(number, number + number % 4)]
        session.add(user)
        for name in ["", f"gpu-{number}"] if number % records.SPAWNERS_EVERY == 0 else [""]:
            spawner = orm.Spawner(
                user=user,
                name=name,
                state={"pid": 1000 + number, "container": f"jupyter-{number}"},
                user_options={"image": "datascience", "cookie": b"\x01\x02"} if name else None,
                last_activity=EPOCH + timedelta(hours=number),
            )
            if number % records.RUNNING_EVERY == 0:
                spawner.started = EPOCH + timedelta(hours=number)
                spawner.server = orm.Server(
                    proto="http",
                    ip=f"10.0.{number // 250}.{number % 250}",
                    port=8888,
                    base_url=f"/user/{user.name}/{name}",
                    cookie_name=f"user-{number}",
                )
            session.add(spawner)
        users.append(user)
    session.commit()
    return users


def _services(session: Any) -> list[Any]:
    services = []
    for number in range(records.SERVICES):
        service = orm.Service(
            name=f"service-{number:02}", admin=number % 8 == 0, pid=4000 + number if number % 2 else None
        )
        if number % 3 == 0:
            service.server = orm.Server(
                proto="https", ip="hub.example.org", port=9000 + number, base_url="/services", cookie_name=""
            )
        session.add(service)
        services.append(service)
    session.commit()
    return services


def _clients(session: Any, users: list[Any], services: list[Any]) -> list[Any]:
    owned = [f"jupyterhub-user-{number}" for number in range(0, len(users), records.RUNNING_EVERY)]
    owned += [f"service-{service.name}" for service in services[::2]]
    clients = [
        orm.OAuthClient(
            identifier=identifier,
            description=f"Server at /{identifier}/" if number % 9 else None,
            secret=hashed(secret("client", number)),
            redirect_uri=f"/{identifier}/oauth_callback",
        )
        for number, identifier in enumerate(owned)
    ]
    session.add_all(clients)
    session.commit()
    return clients


def _api_tokens(session: Any, users: list[Any], services: list[Any]) -> None:
    owners = [("user", user) for user in users]
    owners += [("service", service) for service in services for _ in range(records.TOKENS_PER_SERVICE)]
    for number, (kind, owner) in enumerate(owners):
        token = secret("api", number)
        session.add(
            orm.APIToken(
                **{kind: owner},
                hashed=hashed(token),
                prefix=token[: orm.APIToken.prefix_length],
                created=EPOCH,
                expires_at=datetime(2037, 1, 1) if number % 6 == 1 else None,  # noqa: DTZ001 - as stored.
                last_activity=EPOCH + timedelta(seconds=number) if number % 2 else None,
                note=f"Server at /user/{owner.name}" if kind == "user" else "",
            )
        )
    session.commit()


def _oauth(session: Any, users: list[Any], clients: list[Any]) -> None:
    for number in range(records.CODES):
        session.add(
            orm.OAuthCode(
                client=clients[number % len(clients)],
                user=users[number % len(users)],
                code=secret("code", number),
                expires_at=EXPIRED if number % 4 == 0 else FAR_FUTURE,
                redirect_uri="/oauth_callback",
                session_id=secret("session", number) if number % 2 else None,
            )
        )
    for number in range(records.ACCESS_TOKENS):
        token = secret("oauth", number)
        session.add(
            orm.OAuthAccessToken(
                # Releases before 0.8 left tokens whose client is gone.
                client=None if number % 40 == 39 else clients[number % len(clients)],
                user=users[number % len(users)],
                grant_type=orm.GrantType.authorization_code,
                expires_at=EXPIRED if number % 10 == 9 else FAR_FUTURE,
                refresh_token=secret("refresh", number),
                session_id=secret("session", number),
                hashed=hashed(token),
                prefix=token[: orm.OAuthAccessToken.prefix_length],
                created=EPOCH + timedelta(seconds=number),
                last_activity=None,
            )
        )
    session.commit()


def exercise(url: str, label: str) -> dict[str, int]:
    """Read everything and write every kind of row, as a hub at work does; raise on any failure.

    Rows that `create` made are read, and those of them that a hub keeps touching are touched; rows are
    deleted only where this round inserted them. The rest of what it inserts stays, as users' data does.

    Args:
        url: the database.
        label: names the rows of this round; use each once.

    Returns:
        How many rows each table had at the end.
    """
    session = session_of(url)
    _read(session)
    stay = _insert(session, f"{label}-stays")
    leave = _insert(session, f"{label}-leaves")
    _update(session, stay, label)
    _delete(session, leave)
    return {name: len(rows) for name, rows in records.dump(session, orm.Base).items()}


def _read(session: Any) -> None:
    for number in range(0, records.USERS, 37):
        user = orm.User.find(session, user_name(number))
        assert user.cookie_id == secret("cookie", number)
        assert user.encrypted_auth_state == (secret("auth", number).encode() if number % 4 == 0 else None)
        assert set(user.orm_spawners) >= {""}
        assert orm.APIToken.find(session, secret("api", number), kind="user").user is user
        access = orm.OAuthAccessToken.find(session, secret("oauth", number))
        assert access is None if number % 10 == 9 else access.user is user, access
        assert [len(group.users) for group in user.groups] or number % 4 == 0
    for number in range(0, records.SERVICES, 7):
        service = orm.Service.find(session, f"service-{number:02}")
        assert len(service.api_tokens) == records.TOKENS_PER_SERVICE
        assert (service.server is not None) == (number % 3 == 0)
    assert orm.OAuthCode.find(session, secret("code", 1)).client.identifier.startswith("jupyterhub-user-")
    assert orm.OAuthCode.find(session, secret("code", 0)) is None  # Expired.
    for client in session.query(orm.OAuthClient):
        assert all(token.client is client for token in client.access_tokens)


def _insert(session: Any, name: str) -> dict[str, Any]:
    """A user with everything that a user can have, and a service likewise."""
    group = orm.Group(name=f"group-{name}")
    user = orm.User(name=f"user-{name}", admin=False, state={"round": name}, encrypted_auth_state=b"\x00")
    user.groups = [group, orm.Group.find(session, "course-03")]
    server = orm.Server(ip="127.0.0.1", base_url=f"/user/{name}/", cookie_name=name)
    spawner = orm.Spawner(user=user, name="", server=server, state={"pid": 1}, user_options={"raw": b"\x02"})
    service = orm.Service(name=f"service-{name}", server=orm.Server(base_url=f"/services/{name}/"))
    session.add_all([group, user, spawner, service])
    session.commit()
    token = user.new_api_token(note=name, expires_in=3600)
    assert orm.APIToken.find(session, token).user is user
    assert orm.APIToken.find(session, service.new_api_token()).service is service
    # As the hub does it when it starts a server, and when a browser logs in there.
    provider = make_provider(lambda: session, url_prefix="/hub/api/oauth2", login_url="/hub/login")
    provider.add_client(f"client-{name}", "the client's secret", "/oauth_callback", description=name)
    client = session.query(orm.OAuthClient).filter_by(identifier=f"client-{name}").one()
    code = secret(name, 0)
    session.add(orm.OAuthCode(client=client, user=user, code=code, expires_at=FAR_FUTURE, session_id=name))
    access = orm.OAuthAccessToken(
        client=client, user=user, grant_type=orm.GrantType.authorization_code, expires_at=FAR_FUTURE
    )
    access.token = secret(name, 1)
    session.add(access)
    session.commit()
    assert orm.OAuthCode.find(session, code).user is user
    assert orm.OAuthAccessToken.find(session, secret(name, 1)) is access
    return {"user": user, "group": group, "service": service, "client": client}


def _update(session: Any, made: dict[str, Any], label: str) -> None:
    """What a hub at work touches: activity, servers that start and stop, memberships, secrets."""
    now = datetime.utcnow()  # noqa: DTZ003 - as the release writes it.
    user = made["user"]
    for row in (user, *user.api_tokens, *user.oauth_tokens, *user.orm_spawners.values()):
        row.last_activity = now
    spawner = user.orm_spawners[""]
    session.delete(spawner.server)  # It stopped, …
    session.commit()
    assert spawner.server is None
    spawner.server = orm.Server(ip="127.0.0.2", port=1)  # … and starts elsewhere.
    spawner.state = {"pid": 2, "round": label}
    user.groups.append(orm.Group.find(session, "course-05"))
    user.groups.remove(orm.Group.find(session, "course-03"))
    made["service"].pid = 7
    made["service"].admin = True
    made["client"].secret = hashed(label)
    session.commit()
    # Bulk, on rows that were there before: no row is loaded, no relationship is walked.
    students = session.query(orm.User).filter(orm.User.name.like("student-%"))
    updated = students.update({"admin": orm.User.admin}, synchronize_session=False)
    assert updated > records.USERS // 2
    updated = session.query(orm.Service).update({"pid": orm.Service.pid}, synchronize_session=False)
    assert updated > records.SERVICES
    session.commit()


def _delete(session: Any, made: dict[str, Any]) -> None:
    """Delete by the ORM's cascades, and by the database's."""
    user, client = made["user"].id, made["client"].identifier
    tokens = session.query(orm.OAuthAccessToken).filter_by(user_id=user)
    assert tokens.count() == 1
    session.delete(made["client"])
    session.commit()
    assert tokens.count() == 0
    assert session.query(orm.OAuthCode).filter_by(client_id=client).count() == 0
    session.query(orm.User).filter_by(id=user).delete(synchronize_session=False)
    session.commit()
    session.expunge_all()
    for children in (orm.APIToken, orm.Spawner, orm.OAuthCode, orm.OAuthAccessToken):
        assert session.query(children).filter_by(user_id=user).count() == 0
    for kind, name in ((orm.Service, made["service"].name), (orm.Group, made["group"].name)):
        session.delete(kind.find(session, name))
    session.commit()


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["create", "exercise", "dump", "version"])
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--round", default="1", help="names the rows that `exercise` writes")
    parser.add_argument(
        "--running",
        action="store_true",
        help="as a hub that is up: only one that starts looks at alembic_version",
    )
    arguments = parser.parse_args()
    if arguments.running:
        orm.check_db_revision = lambda _: None
    match arguments.command:
        case "version":
            versions = {"jupyterhub": jupyterhub.__version__, "sqlalchemy": sqlalchemy.__version__}
            records.write({**versions, "package": str(Path(jupyterhub.__file__).parent)})
        case "create":
            create(arguments.url)
        case "exercise":
            records.write(exercise(arguments.url, arguments.round))
        case _:
            records.write(records.dump(session_of(arguments.url), orm.Base))


if __name__ == "__main__":
    main()
