"""The models of the release before. Where that has a tag in git, `emc_old_git` makes this file superfluous."""

from sqlalchemy import Column, Integer, MetaData, String, Table

metadata = MetaData()
Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(100), nullable=False),
    Column("nickname", String(40)),
)
