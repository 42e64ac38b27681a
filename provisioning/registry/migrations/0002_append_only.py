"""The database itself refuses to change or delete audit events, whoever asks."""

from django.db import migrations

SQLITE = [
    "CREATE TRIGGER registry_audit_no_update BEFORE UPDATE ON registry_auditevent "
    "BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END",
    "CREATE TRIGGER registry_audit_no_delete BEFORE DELETE ON registry_auditevent "
    "BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END",
]
SQLITE_BACK = ["DROP TRIGGER registry_audit_no_update", "DROP TRIGGER registry_audit_no_delete"]

POSTGRESQL = [
    "CREATE FUNCTION registry_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'audit events are append-only'; END $$",
    "CREATE TRIGGER registry_audit_append_only BEFORE UPDATE OR DELETE ON registry_auditevent "
    "FOR EACH ROW EXECUTE FUNCTION registry_audit_refuse()",
    "CREATE TRIGGER registry_audit_no_truncate BEFORE TRUNCATE ON registry_auditevent "
    "FOR EACH STATEMENT EXECUTE FUNCTION registry_audit_refuse()",
]
POSTGRESQL_BACK = [
    "DROP TRIGGER registry_audit_append_only ON registry_auditevent",
    "DROP TRIGGER registry_audit_no_truncate ON registry_auditevent",
    "DROP FUNCTION registry_audit_refuse()",
]


def _run(schema_editor, by_vendor):
    for statement in by_vendor[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def forwards(apps, schema_editor):
    _run(schema_editor, {"sqlite": SQLITE, "postgresql": POSTGRESQL})


def backwards(apps, schema_editor):
    _run(schema_editor, {"sqlite": SQLITE_BACK, "postgresql": POSTGRESQL_BACK})


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_tables")]
    operations = [migrations.RunPython(forwards, backwards)]
