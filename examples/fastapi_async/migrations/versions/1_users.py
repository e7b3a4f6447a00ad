"""Make the table of users, as it was before emc came."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    """Make it."""
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(100), nullable=False),
        sa.Column("nickname", sa.String(40)),
    )


def downgrade():
    """Drop it."""
    op.drop_table("users")
