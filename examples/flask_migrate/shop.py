"""A Flask application with Flask-Migrate. Its second release has time zones, and no nicknames."""

import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

import emc

db = SQLAlchemy()


class User(db.Model):
    """Whoever buys something."""

    __tablename__ = "users"

    id = db.Column(db.Integer, primary_key=True)
    email = db.Column(db.String(100), nullable=False)
    tz = db.Column(db.String(40), nullable=False)


upgrade = emc.Upgrade(db.metadata, release="2")
upgrade.fill(User.tz, "UTC")
upgrade.discard("users.nickname", reason="nobody has shown it for a year")


def create_app() -> Flask:
    """The application, on the database that the environment names."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    db.init_app(app)
    Migrate(app, db)
    return app
