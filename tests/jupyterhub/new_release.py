"""What does JupyterHub 6.1.1 do with its database?

Run by an interpreter that has the new release: `python -m tests.jupyterhub.new_release exercise URL`.
"""

from __future__ import annotations

import argparse
from typing import Any

import alembic.command
import alembic.config
import jupyterhub  # type: ignore[import-not-found]
import sqlalchemy
from jupyterhub import orm, roles
from jupyterhub.dbutil import _temp_alembic_ini  # type: ignore[import-not-found]
from jupyterhub.oauth.provider import make_provider  # type: ignore[import-not-found]
from jupyterhub.utils import utcnow  # type: ignore[import-not-found]
from sqlalchemy.orm import Session, sessionmaker

from tests.jupyterhub import records
from tests.jupyterhub.records import FAR_FUTURE, secret, user_name

COMMANDS = ["create", "start", "exercise", "dump", "schema", "stamp", "version"]


def session_of(url: str) -> Session:
    """A session as the release opens it, apart from two things that would hide what is tested.

    `new_session_factory` refuses while `alembic_version` says the old release (it has to: the old release
    runs, and would refuse otherwise), and it creates whatever table is missing.
    """
    engine = sqlalchemy.create_engine(url)
    if engine.dialect.name == "sqlite":
        orm.register_foreign_keys(engine)
    orm.register_ping_connection(engine)
    return sessionmaker(bind=engine, expire_on_commit=False)()


def start(session: Session) -> None:
    """What the hub writes when it starts on a database of 1.x: its own OAuth client, roles, who has them."""
    if not session.query(orm.OAuthClient).filter_by(identifier="jupyterhub").one_or_none():
        client = orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri="")
        session.add(client)
        session.commit()
    for role in roles.get_default_roles():
        roles.create_role(session, role, commit=False)
    session.commit()
    admin = orm.Role.find(session, "admin")
    for kind in (orm.User, orm.Service):
        for entity in session.query(kind).filter(kind.admin, ~kind.roles.any(id=admin.id)):
            roles.grant_role(session, entity, admin, commit=False)
    session.commit()
    roles.check_for_default_roles(session, "users")


def exercise(url: str, label: str, state: str) -> dict[str, int]:
    """Start, read everything and write every kind of row, as a hub at work does; raise on any failure.

    Args:
        url: the database.
        label: names the rows of this round; use each once.
        state: `expanded`: rows of the old release may not be filled yet, so nobody logs in with their tokens
            (the release deletes a token without client on sight). `migrated`: every one of them works.
            `moved`: the old release's OAuth tokens work too.

    Returns:
        How many rows each table had at the end.
    """
    session = session_of(url)
    start(session)
    _read(session)
    if state != "expanded":
        _log_in(session)
    if state == "moved":
        _log_in_with_oauth(session)
    stay = _insert(session, f"{label}-stays")
    leave = _insert(session, f"{label}-leaves")
    _update(session, stay, label)
    _delete(session, leave)
    return {name: len(rows) for name, rows in records.dump(session, orm.Base).items()}


def _read(session: Session) -> None:
    for number in range(0, records.USERS, 37):
        user = orm.User.find(session, user_name(number))
        assert user.cookie_id == secret("cookie", number)
        assert user.encrypted_auth_state == (secret("auth", number).encode() if number % 4 == 0 else None)
        assert set(user.orm_spawners) >= {""}
        assert {role.name for role in user.roles} == ({"admin"} if user.admin else {"user"})
        assert all(share.owner is not user for share in user.all_shared_with_me)
    for number in range(0, records.SERVICES, 7):
        service = orm.Service.find(session, f"service-{number:02}")
        assert len(service.api_tokens) == records.TOKENS_PER_SERVICE
        assert (service.server is not None) == (number % 3 == 0)
        assert service.command == [], service.command
    assert orm.OAuthCode.find(session, secret("code", 1)).client.identifier.startswith("jupyterhub-user-")
    assert orm.OAuthCode.find(session, secret("code", 0)) is None  # Expired.


def _log_in(session: Session) -> None:
    """Every API token that the old release gave out opens the door, with its owner's rights."""
    owners = [user_name(number) for number in range(records.USERS)]
    owners += [f"service-{number // records.TOKENS_PER_SERVICE:02}" for number in range(_service_tokens())]
    for number in range(0, len(owners), 11):
        token = orm.APIToken.find(session, secret("api", number))
        assert token is not None, f"the token of {owners[number]} is gone"
        assert token.owner.name == owners[number]
        assert (token.client_id, token.scopes) == ("jupyterhub", ["inherit"])
    assert session.query(orm.APIToken).filter(orm.APIToken.client_id.is_(None)).count() == 0
    assert session.query(orm.Service).filter(orm.Service.timeout.is_(None)).count() == 0
    assert session.query(orm.Service).filter(orm.Service.from_config.is_(None)).count() == 0
    assert all(isinstance(group.properties, dict) for group in session.query(orm.Group))


def _service_tokens() -> int:
    return records.SERVICES * records.TOKENS_PER_SERVICE


def _log_in_with_oauth(session: Session) -> None:
    """Every OAuth token of a browser opens the door it opened before, unless it had expired."""
    for number in range(0, records.ACCESS_TOKENS, 7):
        token = orm.APIToken.find(session, secret("oauth", number))
        if number % 10 == 9:  # Expired; every token without client (`number % 40 == 39`) is among them.
            assert token is None
        else:
            assert token.user.name == user_name(number % records.USERS)
            assert token.session_id == secret("session", number)
            assert token.client_id != "jupyterhub"
            assert token.scopes == ["read:users:groups!user", "read:users:name!user"]


def _insert(session: Session, name: str) -> dict[str, Any]:
    """A user with everything that a user can have, and a service likewise."""
    group = orm.Group(name=f"group-{name}", properties={"quota": 3})
    user = orm.User(name=f"user-{name}", user_info={"mail": "a@example.org"}, encrypted_auth_state=b"\0")
    user.groups = [group, orm.Group.find(session, "course-03")]
    service = orm.Service(
        name=f"service-{name}",
        server=orm.Server(base_url=f"/services/{name}/"),
        url="http://localhost",
        command=["serve"],
        environment={"A": "b"},
        from_config=False,
    )
    session.add_all([group, user, service])
    session.commit()
    for entity in (user, service):
        roles.assign_default_roles(session, entity)
    provider = make_provider(lambda: session, url_prefix="/hub/api/oauth2", login_url="/hub/login")
    client = provider.add_client(
        f"client-{name}", "the client's secret", "/oauth_callback", allowed_scopes=["self"], description=name
    )
    spawner = orm.Spawner(
        user=user,
        name="",
        display_name="My server",
        server=orm.Server(ip="127.0.0.1", cookie_name=name),
        oauth_client=client,
        user_options={"raw": b"\x02"},
    )
    session.add(spawner)
    session.commit()
    token = user.new_api_token(note=name, expires_in=3600)
    assert orm.APIToken.find(session, token).user is user
    assert orm.APIToken.find(session, service.new_api_token()).service is service
    access = user.new_api_token(oauth_client=client, session_id=name, scopes=["read:users:name!user"])
    assert orm.APIToken.find(session, access).oauth_client is client
    code = orm.OAuthCode(
        client=client,
        user=user,
        code=secret(name, 0),
        expires_at=FAR_FUTURE,
        session_id=name,
        scopes=["self"],
        code_challenge="challenge",
        code_challenge_method="S256",
    )
    session.add(code)
    session.commit()
    assert orm.OAuthCode.find(session, code.code).scopes == ["self"]
    guest = orm.User.find(session, user_name(0))
    orm.Share.grant(session, spawner, guest)
    orm.Share.grant(session, spawner, orm.Group.find(session, "course-01"))
    share_code, text = orm.ShareCode.new(session, spawner, scopes=["access:servers"])
    share_code.exchange(orm.User.find(session, user_name(1)))
    assert orm.ShareCode.find(session, text).exchange_count == 1
    return {"user": user, "group": group, "service": service, "client": client, "spawner": spawner}


def _update(session: Session, made: dict[str, Any], label: str) -> None:
    """What a hub at work touches: activity, servers that start and stop, memberships, roles."""
    user = made["user"]
    now = utcnow(with_tz=False)
    for row in (user, *user.api_tokens, *user.orm_spawners.values()):
        row.last_activity = now
    spawner = made["spawner"]
    session.delete(spawner.server)
    session.commit()
    spawner.server = orm.Server(ip="127.0.0.2", port=1)
    spawner.state = {"round": label}
    user.groups.remove(orm.Group.find(session, "course-03"))
    user.groups.append(orm.Group.find(session, "course-05"))
    made["service"].timeout = 60
    made["group"].properties = {}
    session.commit()
    roles.strip_role(session, user, "user")
    roles.grant_role(session, user, "user", managed=True)
    orm.Share.revoke(session, spawner, orm.Group.find(session, "course-01"))
    # Bulk, on rows that were there before.
    students = session.query(orm.User).filter(orm.User.name.like("student-%"))
    updated = students.update({"admin": orm.User.admin}, synchronize_session=False)
    assert updated > records.USERS // 2
    session.commit()


def _delete(session: Session, made: dict[str, Any]) -> None:
    """Delete by the ORM's cascades, and by the database's."""
    user, client = made["user"].id, made["client"].identifier
    session.query(orm.OAuthClient).filter_by(identifier=client).delete(synchronize_session=False)
    session.commit()
    session.expunge_all()
    assert session.query(orm.APIToken).filter_by(client_id=client).count() == 0
    assert session.query(orm.Spawner).filter_by(user_id=user).one().oauth_client_id is None
    session.query(orm.User).filter_by(id=user).delete(synchronize_session=False)
    session.commit()
    session.expunge_all()
    for children in (orm.APIToken, orm.Spawner, orm.OAuthCode):
        assert session.query(children).filter_by(user_id=user).count() == 0
    assert session.query(orm.Share).filter_by(owner_id=user).count() == 0
    for kind, name in ((orm.Service, made["service"].name), (orm.Group, made["group"].name)):
        session.delete(kind.find(session, name))
    session.commit()


def stamp(url: str) -> None:
    """Mark the database as the release's own, by its own Alembic directory, and open it as the release does.

    Revisions that the release's own directory does not have are forgotten.

    Raises:
        jupyterhub.orm.DatabaseSchemaMismatch: the release does not take the database for one of its own.
    """
    with _temp_alembic_ini(url) as ini:
        alembic.command.stamp(alembic.config.Config(ini), "head", purge=True)
    orm.new_session_factory(url)().close()


def schema(url: str) -> dict[str, Any]:
    """The live schema, apart from the names of constraints and the order of columns."""
    inspector = sqlalchemy.inspect(sqlalchemy.create_engine(url))
    return {
        table: {
            "columns": {
                column["name"]: [str(column["type"]), column["nullable"], column["default"]]
                for column in inspector.get_columns(table)
            },
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": _foreign_keys(inspector, table),
            "uniques": sorted(unique["column_names"] for unique in inspector.get_unique_constraints(table)),
            "checks": sorted(check["sqltext"] for check in inspector.get_check_constraints(table)),
            "indexes": _indexes(inspector, table),
        }
        for table in inspector.get_table_names()
    }


def _indexes(inspector: sqlalchemy.Inspector, table: str) -> list[str]:
    """The names of the indexes that are not told as unique constraints.

    MariaDB makes an index for each foreign key and calls it like that: it is told by its columns.
    """
    told = {unique.get("duplicates_index") for unique in inspector.get_unique_constraints(table)}
    keys = [key["constrained_columns"] for key in inspector.get_foreign_keys(table)]
    called_like_keys = inspector.dialect.name == "mysql"
    return sorted(
        f"of the foreign key on {index['column_names']}"
        if called_like_keys and index["column_names"] in keys
        else index["name"] or ""
        for index in inspector.get_indexes(table)
        if "duplicates_constraint" not in index and index["name"] not in told
    )


def _foreign_keys(inspector: sqlalchemy.Inspector, table: str) -> list[Any]:
    if inspector.dialect.name == "sqlite":
        # SQLAlchemy (seen on 2.1.9) does not see ON DELETE of a key that came with ADD COLUMN … REFERENCES.
        with inspector.engine.connect() as connection:
            keys = connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})").mappings()
            return sorted([[key["from"]], key["table"], [key["to"]], key["on_delete"]] for key in keys)
    return sorted(
        [key["constrained_columns"], key["referred_table"], key["referred_columns"], key["options"]]
        for key in inspector.get_foreign_keys(table)
    )


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--round", default="1", help="names the rows that `exercise` writes")
    parser.add_argument("--state", default="expanded", choices=["expanded", "migrated", "moved"])
    arguments = parser.parse_args()
    match arguments.command:
        case "version":
            versions = {"jupyterhub": jupyterhub.__version__, "sqlalchemy": sqlalchemy.__version__}
            records.write(versions)
        case "start":
            start(session_of(arguments.url))
        case "exercise":
            records.write(exercise(arguments.url, arguments.round, arguments.state))
        case "stamp":
            stamp(arguments.url)
        case "create":
            orm.new_session_factory(arguments.url)().close()
        case "schema":
            records.write(schema(arguments.url))
        case _:
            records.write(records.dump(session_of(arguments.url), orm.Base))


if __name__ == "__main__":
    main()
