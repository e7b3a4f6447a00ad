"""Projects as they are found: however they configure Alembic, emc's revisions find their place in them."""

import contextlib
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Unicode, create_engine, inspect, text

import emc
from tests.alembic.project import Project
from tests.alembic.test_writing import first, lines, reach, second, third

WORD = "old-code-gone"


def configured(project: Project, **options: str) -> None:
    """Write *options* into ``alembic.ini``."""
    path = Path(project.config.config_file_name or "")
    more = "".join(f"{key} = {value}\n" for key, value in options.items())
    path.write_text(path.read_text().replace("[alembic]\n", f"[alembic]\n{more}", 1))
    attributes = project.config.attributes
    project.config = Config(str(path), stdout=project.output)
    project.config.attributes.update(attributes)


def options(project: Project, code: str) -> None:
    """Let ``env.py`` pass more to ``configure``."""
    text = project.env.read_text()
    project.env.write_text(text.replace('attributes["upgrade"],\n', f'attributes["upgrade"], {code},\n'))


def through(project: Project, upgrade: emc.Upgrade, engine: Engine) -> list[Path]:
    """Bring the database to *upgrade* by new revisions; their files."""
    project.release(upgrade)
    made = project.autogenerate("next")
    project.upgrade_to("expand@head")
    emc.migrate(upgrade, engine)
    project.upgrade_to("heads", WORD)
    command.check(project.config)
    return [Path(one.path) for one in made]


@pytest.mark.parametrize("env", ["generic", "pyproject"])
def test_templates(env: str, sqlite_url: str, tmp_path: Path) -> None:
    """With ``alembic.ini`` or ``pyproject.toml``, a database goes by revisions from the first release to the third."""
    project = Project(tmp_path / "project", sqlite_url, env=env)
    project.hook()
    engine = create_engine(sqlite_url)
    for release, revisions in ((first, 1), (second, 2), (third, 1)):
        assert len(through(project, release(), engine)) == revisions
    assert {one["name"] for one in inspect(engine).get_columns("users")} == {"id", "tz", "email", "phone"}
    engine.dispose()


def test_another_database_is_built_by_the_same_revisions(sqlite_url: str, tmp_path: Path) -> None:
    """An empty database goes through all of the history at once, and nobody has to say anything."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    engine = create_engine(sqlite_url)
    for release in (first, second, third):
        through(project, release(), engine)
    engine.dispose()
    url = f"sqlite:///{tmp_path / 'new.db'}"
    project.config.attributes["url"] = url

    project.upgrade_to("heads")

    command.check(project.config)
    new = create_engine(url)
    assert {one["name"] for one in inspect(new).get_columns("users")} == {"id", "tz", "email", "phone"}
    new.dispose()


def test_several_directories(sqlite_url: str, tmp_path: Path) -> None:
    """With several version directories the first revisions go where ``--version-path`` says, later ones beside them."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    ours, theirs = (project.directory / name for name in ("ours", "theirs"))
    theirs.mkdir()
    configured(project, version_locations=f"{ours}:{theirs}", file_template="%%(year)d_%%(rev)s_%%(slug)s")
    engine = create_engine(sqlite_url)
    emc.expand(first(), engine)
    project.release(second())
    with pytest.raises(CommandError, match="version-path"):
        project.autogenerate("names")
    with contextlib.redirect_stdout(project.output):
        made = command.revision(project.config, "names", autogenerate=True, version_path=str(ours))
    assert isinstance(made, list)
    assert [Path(one.path).parent for one in made if one] == [ours, ours]
    reach(project, second(), engine)
    project.release(third())

    (following,) = project.autogenerate("phone")

    assert Path(following.path).parent == ours
    assert Path(following.path).name.endswith(f"_{following.revision}_expand_phone.py")
    engine.dispose()


def test_several_heads(sqlite_url: str, tmp_path: Path) -> None:
    """A history with several ends says that they have to be merged first, and is joined then."""
    project = Project(tmp_path / "project", sqlite_url)
    root = project.by_hand("root").revision
    ends = [project.by_hand(name, head=root, splice=True).revision for name in ("left", "right")]
    project.hook()
    engine = create_engine(sqlite_url)
    emc.expand(first(), engine)
    project.release(second())
    command.stamp(project.config, "heads")
    with pytest.raises(CommandError, match="alembic merge") as found:
        project.autogenerate("names")
    assert all(end in str(found.value) for end in ends)
    with contextlib.redirect_stdout(project.output):
        merged = command.merge(project.config, ends, "together")
    assert merged is not None
    command.stamp(project.config, "heads")

    expand, contract = project.autogenerate("names")

    assert (expand.down_revision, contract.down_revision) == (merged.revision, merged.revision)
    engine.dispose()


def test_version_table_elsewhere(postgresql_url: str, tmp_path: Path) -> None:
    """Alembic's own table may have another name and schema, and models several schemas."""
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA bookkeeping"))
        connection.execute(text("CREATE SCHEMA sales"))
    project = Project(tmp_path / "project", postgresql_url)
    project.hook()
    options(project, 'version_table="steps", version_table_schema="bookkeeping", include_schemas=True')
    metadata = MetaData()
    Table("orders", metadata, Column("id", Integer, primary_key=True), schema="sales")
    through(project, emc.Upgrade(metadata), engine)
    later = MetaData()
    Table("orders", later, Column("id", Integer, primary_key=True), Column("tz", Integer), schema="sales")
    through(project, emc.Upgrade(later), engine)

    assert inspect(engine).get_table_names("bookkeeping") == ["steps"]
    assert {one["name"] for one in inspect(engine).get_columns("orders", "sales")} == {"id", "tz"}
    engine.dispose()


def test_what_env_py_passes_goes_on_working(sqlite_url: str, tmp_path: Path) -> None:
    """Filters, ``render_item`` and ``process_revision_directives`` of a project do what they did."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    project.env.write_text(
        "def seen(found, name, kind, reflected, compare_to):\n"
        '    return name != "theirs"\n\n\n'
        "def named(name, kind, parents):\n"
        '    return name != "hers"\n\n\n'
        "def spelled(kind, found, context):\n"
        '    if kind == "type" and type(found).__name__ == "Unicode":\n'
        '        context.imports.add("from sqlalchemy import Unicode as Letters")\n'
        '        return f"Letters({found.length})"\n'
        "    return False\n\n\n"
        "def reviewed(context, revision, scripts):\n"
        "    for script in scripts:\n"
        '        script.message = f"{script.message} (reviewed)"\n\n\n' + project.env.read_text()
    )
    options(
        project,
        "include_object=seen, include_name=named, render_item=spelled, process_revision_directives=reviewed, "
        "compare_type=lambda *_: None",
    )
    metadata = MetaData()
    for name in ("ours", "theirs", "hers"):
        Table(name, metadata, Column("id", Integer, primary_key=True), Column("name", Unicode(9)))
    project.release(emc.Upgrade(metadata))

    (script,) = project.autogenerate("tables")

    code = "\n".join(lines(script))
    assert "op.create_table('ours'" in code
    assert "theirs" not in code
    assert "hers'" not in code.replace("theirs", "")
    assert "Letters(9)" in code
    assert "from sqlalchemy import Unicode as Letters" in code
    assert script.doc == "expand tables (reviewed)"
    project.upgrade_to("heads")
    engine = create_engine(sqlite_url)
    assert inspect(engine).has_table("ours")
    assert not inspect(engine).has_table("theirs")
    command.check(project.config)
    engine.dispose()


def test_several_databases_in_one_environment(tmp_path: Path) -> None:
    """The template for several databases is refused: a plan is that of one."""
    project = Project(tmp_path / "project", f"sqlite:///{tmp_path / 'one.db'}", env="multidb")
    project.release(first())
    text = project.env.read_text()
    for old, new in (
        ("from alembic import context\n", "import emc.alembic\nfrom alembic import context\n"),
        (
            "            context.configure(\n",
            '            emc.alembic.configure(\n                context, config.attributes["upgrade"],\n',
        ),
        ("fileConfig(config.config_file_name)", "pass"),
    ):
        assert old in text
        text = text.replace(old, new)
    project.env.write_text(text)
    ini = Path(project.config.config_file_name or "")
    ini.write_text(
        ini.read_text().replace("driver://user:pass@localhost/dbname", f"sqlite:///{tmp_path}/x.db")
    )
    with pytest.raises(CommandError, match="one database at a time"):
        project.autogenerate("tables")
    assert not list(project.directory.rglob("versions/*.py"))


def test_too_early(sqlite_url: str, tmp_path: Path) -> None:
    """A second autogenerate before the revisions of the first have run is refused in Alembic's own words."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    project.release(first())
    project.autogenerate("users")
    with pytest.raises(CommandError, match=r"^Target database is not up to date\.$"):
        project.autogenerate("again")


def test_only_contract_is_left(sqlite_url: str, tmp_path: Path) -> None:
    """What only takes away is one revision, on the branch contract, and a name alone in the head is refused."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    engine = create_engine(sqlite_url)
    project.release(first())
    project.autogenerate("users")
    reach(project, first(), engine)
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True))
    upgrade = emc.Upgrade(metadata)
    upgrade.retire("users.name")
    project.release(upgrade)
    with pytest.raises(CommandError, match="emc chooses where"):
        command.revision(project.config, "name", autogenerate=True, head="expand@head")

    (contract,) = project.autogenerate("name")

    assert contract.branch_labels == {"contract"}
    project.upgrade_to("heads", WORD)
    assert [one["name"] for one in inspect(engine).get_columns("users")] == ["id"]
    engine.dispose()


def test_a_revision_on_no_branch_does_not_run(sqlite_url: str, tmp_path: Path) -> None:
    """Behind the branches, a revision that somebody makes on neither is refused with what to do about it."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    project.release(first())
    project.autogenerate("users")
    stray = project.by_hand("stray", head="base", splice=True)
    with pytest.raises(CommandError, match=f"Revision {stray.revision} is neither") as found:
        project.upgrade_to("heads")
    assert "alembic revision --head expand@head" in str(found.value)
