"""What has to be declared to take a JupyterHub from 1.5.1 to 6.1.1?

The same upgrade as a person would write it down, step by step. What JupyterHub's own Alembic revisions
do is named by their ids; unlike those, this upgrade keeps every API token.
"""

from __future__ import annotations

import datetime
from typing import Any

from jupyterhub import orm  # type: ignore[import-not-found]
from sqlalchemy import Connection, insert

import emc
from emc import Upgrade


def declared() -> Upgrade:
    """The models of the new release, and the values that they want in old rows."""
    upgrade = Upgrade(orm.Base.metadata, release="6.1.1")

    # be8ecf03ddac: a new NOT NULL column. The constant serves the old release's inserts too.
    upgrade.fill(orm.Service.timeout, 30)

    # 3c2384c5aae1: every service that a 1.x hub knows comes from its configuration.
    upgrade.data_migration(
        orm.Service,
        name="services_from_config",
        where=orm.Service.from_config.is_(None),
        values={orm.Service.from_config: True},
    )

    # 0eee8c825d24 adds the column and leaves None, where the new release's own rows have a dictionary.
    upgrade.data_migration(
        orm.Group,
        name="group_properties",
        where=orm.Group.properties.is_(None),
        values={orm.Group.properties: {}},
    )

    # 833da8570507 drops all API tokens, and names this as to be done. "jupyterhub" is an OAuth client that
    # the new release makes when it starts: start it between expand and migrate. It deletes tokens without a
    # client on sight, so migrate before anybody logs in there with an old token.
    upgrade.data_migration(
        orm.APIToken,
        name="tokens_belong_to_the_hub",
        where=orm.APIToken.client_id.is_(None),
        values={orm.APIToken.client_id: "jupyterhub", orm.APIToken.scopes: ["inherit"]},
    )
    return upgrade


bare = Upgrade(orm.Base.metadata, release="6.1.1")
"""Nothing is declared yet."""

retiring = declared()
"""`oauth_access_tokens` may go once it holds no rows."""
retiring.retire("oauth_access_tokens")

discarding = declared()
"""`oauth_access_tokens` may go with the rows it holds."""
discarding.discard("oauth_access_tokens", reason="Browsers log in again, as after JupyterHub's own upgrade.")

moving = declared()
"""The OAuth tokens that still open something become API tokens, as 6.1.1 keeps them; the others go.

Run `oauth_tokens` when 1.5.1 has stopped: there an API token has all of its user's rights, and an OAuth
token only tells who the user is.
"""


@moving.data_migration("oauth_access_tokens")
def oauth_tokens(row: Any, connection: Connection) -> Any:
    """Insert a token among the API tokens, if it is valid, and delete it here."""
    expires = row.expires_at and datetime.datetime.fromtimestamp(row.expires_at, datetime.UTC)
    stale = row.client_id is None or row.user_id is None
    if not stale and not (expires and expires < datetime.datetime.now(datetime.UTC)):
        connection.execute(
            insert(orm.APIToken.__table__).values(
                user_id=row.user_id,
                client_id=row.client_id,
                session_id=row.session_id,
                hashed=row.hashed,
                prefix=row.prefix,
                created=row.created,
                last_activity=row.last_activity,
                expires_at=expires and expires.replace(tzinfo=None),
                note="",
                # "4. give oauth tokens 'identify' scopes", says 833da8570507.
                scopes=["read:users:groups!user", "read:users:name!user"],
            )
        )
    return emc.DELETE


moving.retire("oauth_access_tokens", after=[oauth_tokens])
